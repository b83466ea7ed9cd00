"""What a night wants to ask: the queue in order, repeats of what is still noisy, nothing that is not worth a query."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from pi_agent.agent import Agent
from pi_agent.contract.images import QueryImage
from pi_agent.contract.log import event
from pi_agent.contract.metrics import standard_error
from pi_agent.store.queue import QueuedImage

log = logging.getLogger(__name__)

NEAR_BITS = 6
"""Hashes that differ in so many of 64 bits are of near-duplicates, where the user does not say otherwise."""
AT_ONCE_UNJUDGED = 4
"""Questions on their way while nobody knows whether the oracle repeats itself."""
ENOUGH_TO_JUDGE = 3
"""Answers before a standard error is believed: that of two is mostly luck."""


@dataclass(frozen=True)
class Wish:
    """`repeats`: answers per image at most; `until_se`: fewer where the standard error of the mean is below it.

    `near_bits`: skip images whose perceptual hash is so close to that of one already asked; None asks all.
    """

    repeats: int = 1
    until_se: float | None = None
    near_bits: int | None = None


class Wanted:
    """An iterator of the images to ask next. It may go on after its end: what landed may want to be asked again."""

    def __init__(self, agent: Agent, wish: Wish) -> None:
        self._agent, self._wish = agent, wish
        self.repeats = wish.repeats
        self.alike: bool | None = None
        """True where the oracle was found to repeat itself: asking again would be a waste."""
        self.skipped: list[str] = []
        self.unreadable = 0
        self._out: set[str] = set()
        self._judge_oracle()
        self._walk = self.queued()
        self._again: deque[str] = deque()
        self._near = None
        if wish.near_bits is not None:
            from pi_agent.near import NearDuplicates  # only now: it loads OpenCV

            self._near = NearDuplicates(agent.database, agent.pictures, agent.oracle_id, wish.near_bits)

    def queued(self) -> Iterator[QueuedImage]:
        """The queue without what is answered well enough."""
        for queued in self._agent.queue.waiting(self._agent.oracle_id, self.repeats):
            if not self._satisfied(queued.sha256, queued.answers):
                yield queued

    def count(self) -> int:
        """How many images wait."""
        if self._wish.until_se is None or self.repeats == 1:
            return self._agent.queue.count_waiting(self._agent.oracle_id, self.repeats)
        return sum(1 for _ in self.queued())

    def is_near(self, queued: QueuedImage) -> bool:
        """True for a first question about an image that looks like one already asked."""
        return self._near is not None and queued.answers == 0 and self._near.seen(queued.sha256)

    def gave_up(self, sha256: str) -> None:
        """This image brings no answer tonight."""
        self._out.discard(sha256)

    def landed(self, sha256: str) -> None:
        """An answer for this image is in: does it want another?"""
        self._out.discard(sha256)
        if self.repeats == 1:
            return
        if self.alike is None:
            self._judge_oracle()
        if not self._satisfied(sha256, len(self._agent.labels.vectors(sha256))):
            self._again.append(sha256)

    def __iter__(self) -> Wanted:
        return self

    def __next__(self) -> QueryImage:
        if self.repeats > 1 and self.alike is None and len(self._out) >= AT_ONCE_UNJUDGED:
            raise StopIteration  # for now: these may show that asking again is a waste
        picture = self._find()
        self._out.add(picture.sha256)
        return picture

    def _find(self) -> QueryImage:
        if self._again:
            picture = self._agent.pictures.get(self._again.popleft())
            if picture is not None:
                return picture
        for queued in self._walk:
            if self._satisfied(queued.sha256, queued.answers):
                continue  # the oracle has been found to repeat itself meanwhile
            picture = self._agent.pictures.get(queued.sha256)
            if picture is None:
                reason = "the stored picture is missing or damaged"
                log.error(event("picture-lost", image=queued.sha256, source=queued.source, advice="add it again"))
                self._agent.queue.set_problem(queued.sha256, reason)
                self.unreadable += 1
            elif self.is_near(queued):
                log.info(event("near-duplicate", image=queued.sha256[:12], source=queued.source))
                self.skipped.append(queued.sha256)
            else:
                return picture
        raise StopIteration

    def _satisfied(self, sha256: str, answers: int) -> bool:
        if answers >= self.repeats:
            return True
        if self._wish.until_se is None or answers < ENOUGH_TO_JUDGE:
            return False
        return standard_error(self._agent.labels.vectors(sha256)) < self._wish.until_se

    def _judge_oracle(self) -> None:
        if self.repeats > 1:
            self.alike = self._agent.labels.answers_alike()
            if self.alike:
                log.warning(
                    event("oracle-repeats-itself", advice="its answers carry no noise; each image is asked once")
                )
                self.repeats = 1
                self._again = deque()
