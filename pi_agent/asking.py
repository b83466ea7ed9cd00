"""One stream of questions, turn after turn: what is under way, what is to be tried again, and why it ends.

A turn is one durable transaction: it stores what came back and takes what goes out next; only then the next bytes
leave. A crash at any moment costs at most the queries under way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pi_agent.clock import Clock
from pi_agent.contract.answers import Answer, BadAnswer, parse_answer
from pi_agent.contract.errors import MagpieError
from pi_agent.contract.images import QueryImage
from pi_agent.contract.log import event
from pi_agent.contract.windows import iso
from pi_agent.crew import Crew, Landing
from pi_agent.errors import BudgetSpent, LockedOut, NotAuthorised, OracleFailing, Unreachable
from pi_agent.pacing import BREAKER, PATIENCE, Pacing
from pi_agent.store.ledger import Ledger, TooSoon, Turn, WindowNotOpen
from pi_agent.transports.base import (
    Failed,
    ImageRefused,
    LockOut,
    NotSent,
    Reply,
    Throttled,
    TransportError,
    Unauthorised,
)

log = logging.getLogger(__name__)


class NoAnswer(Exception):
    """This image brought no usable answer; `permanent` means that it never will."""

    def __init__(self, reason: str, permanent: bool = False) -> None:
        super().__init__(reason)
        self.permanent = permanent


@dataclass
class Question:
    """An image on its way to an answer; `why`: what went wrong the last time; `sent_at`: by `Clock.elapsed`.

    `silent_before`: how many attempts of the stream had ended without a word on the quota when this one was sent.
    """

    image: QueryImage
    tries: int = 0
    why: str = ""
    sent_at: float = 0.0
    silent_before: int = 0


@dataclass(frozen=True)
class Bounds:
    """Where a stream ends. `limit`: queries; `keep`: queries of the window left alone; `until`: seconds since 1970."""

    limit: int | None = None
    keep: int = 0
    until: float | None = None


Outcome = Answer | NoAnswer
Landed = Callable[[QueryImage, Outcome], object]


class Asking:
    """A stream over `images`; `landed` hears of every image that has its answer or will get none."""

    def __init__(
        self,
        ledger: Ledger,
        crew: Crew,
        clock: Clock,
        pacing: Pacing,
        attempts: int,
        url: str,
        known: tuple[str, ...] | None,
        images: Iterator[QueryImage],
        landed: Landed,
        bounds: Bounds,
    ) -> None:
        self._ledger, self._crew, self._clock, self._pacing = ledger, crew, clock, pacing
        self._attempts, self._url, self._known = attempts, url, known
        self._images, self._landed, self._bounds = images, landed, bounds
        self._under_way: dict[int, Question] = {}
        self._ready: list[Question] = []
        self._not_before = -float("inf")  # by the clock that nobody can set, as all pauses
        self._hold: Exception | None = None
        self._end: MagpieError | None = None
        self._silent = 0
        self.sent = 0

    @property
    def idle(self) -> bool:
        """True when nothing is under way and nothing may go out as things stand: see `obstacle`."""
        return not self._crew.under_way and not self._may_send()

    def obstacle(self) -> Exception | float | None:
        """Why it is idle: what stands in the way (told once), the seconds to wait, or None: all was asked."""
        if self._end is not None:
            return self._end
        hold, self._hold = self._hold, None
        if hold is not None:
            return hold
        if self._over():
            for question in self._ready:
                if question.tries:  # and no query or time is left to try it again
                    failed = f"{question.tries} attempts failed, the last: {question.why}"
                    self._landed(question.image, NoAnswer(failed))
            return None
        return self._not_before - self._clock.elapsed() if self._ready else None

    def turn(self, patience: float | None = None, sending: bool = True) -> None:
        """Wait for what comes back, unless something may go out at once; write both down; let it go out."""
        may_send = sending and self._may_send()
        came_back = self._crew.landed(0.0 if may_send else patience)
        if came_back:
            self._hold = None  # what came back may have made room
        elif not may_send:
            return
        said: list[tuple[QueryImage, Outcome]] = []
        taken: list[tuple[int, Question]] = []
        with self._ledger.turn() as turn:
            for landing in came_back:
                said += self._close(turn, landing)
            if sending and self._may_send():
                taken = self._take(turn)
        self._under_way |= dict(taken)
        for attempt, question in taken:
            self._crew.send(attempt, question.image.jpeg)
        for image, outcome in said:
            self._landed(image, outcome)

    def fill(self) -> None:
        """Have questions ready before a place is free for them: images come from a slow card."""
        if self._end is not None or self._over():
            return
        while len(self._ready) < self._pacing.width and (image := next(self._images, None)) is not None:
            self._ready.append(Question(image))

    # -- going out ---------------------------------------------------------------------------------------------------

    def _over(self) -> bool:
        late = self._bounds.until is not None and self._clock.now() >= self._bounds.until
        return late or (self._bounds.limit is not None and self.sent >= self._bounds.limit)

    def _may_send(self) -> bool:
        if self._end is not None or self._hold is not None or not self._ready or self._over():
            return False
        return self._crew.under_way < self._pacing.width and self._clock.elapsed() >= self._not_before

    def _take(self, turn: Turn) -> list[tuple[int, Question]]:
        """Spend as many queries as there are places, within the budget."""
        try:
            room = turn.room(self._bounds.keep)
        except (WindowNotOpen, TooSoon, BudgetSpent, LockedOut) as exc:
            self._hold = exc
            return []
        places = min(room, self._pacing.width - self._crew.under_way)
        if self._bounds.limit is not None:
            places = min(places, self._bounds.limit - self.sent)
        taken = []
        for question in self._ready[:places]:
            attempt = turn.reserve(question.image.sha256)
            turn.mark_sent(attempt)
            question.silent_before, question.sent_at = self._silent, self._clock.elapsed()
            taken.append((attempt, question))
        del self._ready[: len(taken)]
        self.sent += len(taken)
        return taken

    # -- coming back -------------------------------------------------------------------------------------------------

    def _close(self, turn: Turn, landing: Landing) -> list[tuple[QueryImage, Outcome]]:
        """Write down how an attempt ended; returns the image and its outcome where that is the last word on it."""
        question, outcome = self._under_way.pop(landing.attempt), landing.outcome
        question.tries += 1
        # Where those that overtook it said what was left, the least that was said tells who was counted before whom.
        overtaken, took = self._silent - question.silent_before, self._clock.elapsed() - question.sent_at
        self._silent += getattr(outcome, "server", None) is None
        try:
            if isinstance(outcome, BaseException):
                raise outcome
            answer = parse_answer(outcome.payload, self._known)
        except NotSent as exc:
            turn.refund(landing.attempt, str(exc))
            self.sent -= 1
            return self._try_again(question, exc, Unreachable(url=self._url, reason=exc))
        except TransportError as exc:
            turn.close_unanswered(landing.attempt, str(exc), exc.server, overtaken, took)
            return self._failed(turn, question, exc)
        except BadAnswer as exc:
            server = outcome.server if isinstance(outcome, Reply) else None
            turn.close_unanswered(landing.attempt, f"unusable: {exc}", server, overtaken, took)
            return self._give_up(question, NoAnswer(f"unusable answer: {exc}"))
        turn.settle(landing.attempt, answer, outcome.server, overtaken, took)
        self._known = self._known or answer.classes
        self._pacing.answered()
        return [(question.image, answer)]

    def _failed(self, turn: Turn, question: Question, exc: TransportError) -> list[tuple[QueryImage, Outcome]]:
        if isinstance(exc, Failed):
            return self._try_again(question, exc, None)
        if isinstance(exc, Throttled) and exc.retry_after <= PATIENCE:
            return self._try_again(question, exc, None, exc.retry_after)
        if isinstance(exc, Throttled | LockOut):
            until = exc.until if isinstance(exc, LockOut) else self._clock.now() + exc.retry_after
            self._end = LockedOut(until=iso(turn.lock_out(until)))
            return []
        if isinstance(exc, Unauthorised):
            self._end = NotAuthorised(url=self._url, reason=exc)
            return []
        if isinstance(exc, ImageRefused):
            return self._give_up(question, NoAnswer(f"refused by the oracle: {exc}", permanent=True))
        return self._give_up(question, NoAnswer(f"unusable answer: {exc}"))

    def _try_again(
        self, question: Question, exc: TransportError, end: MagpieError | None, seconds: float | None = None
    ) -> list[tuple[QueryImage, Outcome]]:
        """Put it back, or give up after the last attempt; `end` is what that means for all others.

        The pause is for all, as a failure says more of the oracle than of the image. The most tried goes first, so that
        a sick oracle is known after few images.
        """
        self._pacing.failed()
        question.why = str(exc)
        if question.tries >= self._attempts:
            if end is not None:
                self._end = end
                return []
            return self._give_up(question, NoAnswer(f"{question.tries} attempts failed, the last: {exc}"))
        pause = self._pacing.pause(question.tries) if seconds is None else seconds
        self._not_before = max(self._not_before, self._clock.elapsed() + pause)
        self._ready = sorted([question, *self._ready], key=lambda q: -q.tries)
        log.warning(event("retry", image=question.image.sha256[:12], tries=question.tries, why=exc, pause=pause))
        return []

    def _give_up(self, question: Question, outcome: NoAnswer) -> list[tuple[QueryImage, Outcome]]:
        self._pacing.failed()
        if self._pacing.gave_up():
            reason = f"{BREAKER} images in a row without a usable answer; last: {outcome}"
            self._end = OracleFailing(url=self._url, reason=reason)
        return [(question.image, outcome)]
