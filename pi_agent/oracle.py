"""The only place where a query is spent: cache -> ledger -> transport -> retry.

Whoever wants an answer calls `Oracle.ask`. It looks into the cache, takes one query out of the ledger, makes `sent`
durable, sends, and stores answer and `settled` together. Retries stand above the ledger: every further attempt is a new
reservation, because the oracle may have counted the one before.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import NoReturn, TypeVar

from pi_agent.clock import Clock
from pi_agent.contract.answers import Answer, BadAnswer, parse_scores
from pi_agent.contract.images import QueryImage
from pi_agent.contract.windows import iso
from pi_agent.errors import BudgetSpent, ClockDoubt, LockedOut, NotAuthorised, OracleFailing, Unreachable
from pi_agent.store.labels import Labels
from pi_agent.store.ledger import Ledger, TooSoon, WindowNotOpen
from pi_agent.transports.base import (
    Failed,
    Garbled,
    ImageRefused,
    LockOut,
    NotSent,
    Probe,
    Reply,
    Throttled,
    Transport,
    TransportError,
    Unauthorised,
)

log = logging.getLogger(__name__)

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
PATIENCE = 60.0
"""Seconds that we wait at most when the oracle asks us to slow down; longer means another day."""

T = TypeVar("T")


class NoAnswer(Exception):
    """This image brought no usable answer; `permanent` means that it never will."""

    def __init__(self, reason: str, permanent: bool = False) -> None:
        super().__init__(reason)
        self.permanent = permanent


class Oracle:
    """One oracle behind one ledger. Use it only while holding the spender's lock."""

    def __init__(
        self,
        ledger: Ledger,
        labels: Labels,
        transport: Transport,
        clock: Clock,
        attempts: int,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._ledger, self._labels, self._transport, self._clock = ledger, labels, transport, clock
        self._attempts, self._jitter = attempts, jitter
        self._vouched = False
        self.sent = 0

    def ask(self, image: QueryImage, *, fresh: bool = False, at_most: int | None = None) -> tuple[Answer, bool]:
        """The answer for one image and whether it came from the cache. `fresh=True` asks again (noise averaging).

        `at_most`: queries that may be spent on it, where fewer than the configured attempts are left.

        Raises `BudgetSpent`, `LockedOut` (75), `Unreachable`, `OracleFailing`, `ClockDoubt` (69), `NotAuthorised` (77),
        or `NoAnswer` where only this image failed.
        """
        if not fresh and (cached := self._labels.get(image.sha256)) is not None:
            return cached, True
        attempts = self._attempts if at_most is None else min(self._attempts, at_most)
        for number in range(1, attempts + 1):
            attempt = self._reserve_and_mark_sent(image.sha256)
            try:
                return self._exchange(attempt, image), False
            except NotSent as exc:
                self._ledger.refund(attempt, str(exc))
                self.sent -= 1
                if number == attempts:
                    raise Unreachable(url=self._transport.url, reason=exc) from exc
                self._pause(number, exc)
            except Throttled as exc:
                self._ledger.close_unanswered(attempt, str(exc), exc.server)
                if exc.retry_after > PATIENCE:
                    self._locked(self._clock.now() + exc.retry_after)
                if number < attempts:
                    self._clock.sleep(exc.retry_after)
            except Failed as exc:
                self._ledger.close_unanswered(attempt, str(exc), exc.server)
                if number == attempts:
                    raise NoAnswer(f"{number} attempts failed, the last with: {exc}") from exc
                self._pause(number, exc)
        raise NoAnswer(f"the oracle asked us to slow down {attempts} times")

    def _reserve_and_mark_sent(self, sha256: str) -> int:
        """A query that is durably spent. Opens the window first where a new one has begun, or a new run."""
        if not self._vouched:
            self._open_window()
        while True:
            try:
                attempt = self._ledger.reserve(sha256)
                try:
                    self._ledger.mark_sent(attempt)
                except (WindowNotOpen, TooSoon, BudgetSpent, LockedOut):
                    self._ledger.refund(attempt, "the window ended before sending")
                    raise
            except WindowNotOpen:
                self._open_window()
            except TooSoon as exc:
                self._clock.sleep(exc.wait)
            else:
                self.sent += 1
                return attempt

    def _exchange(self, attempt: int, image: QueryImage) -> Answer:
        """Send, check, settle. Retryable transport errors pass through; the rest closes the attempt here."""
        known = self._labels.classes()
        try:
            reply: Reply = self._transport.ask(image.jpeg)
            answer = parse_scores(reply.payload, known)
        except LockOut as exc:
            self._ledger.close_unanswered(attempt, str(exc), exc.server)
            self._locked(exc.until)
        except Unauthorised as exc:
            self._ledger.close_unanswered(attempt, str(exc), exc.server)
            raise NotAuthorised(url=self._transport.url, reason=exc) from exc
        except ImageRefused as exc:
            self._ledger.close_unanswered(attempt, str(exc), exc.server)
            raise NoAnswer(f"refused by the oracle: {exc}", permanent=True) from exc
        except (Garbled, BadAnswer) as exc:
            self._ledger.close_unanswered(attempt, f"unusable: {exc}", getattr(exc, "server", None))
            raise NoAnswer(f"unusable answer: {exc}") from exc
        if known is None:
            self._labels.set_classes(answer.classes)
        self._ledger.settle(attempt, image.sha256, answer, reply.server)
        return answer

    def _open_window(self) -> None:
        """Open the budget window, if somebody vouches for the clock: systemd-timesyncd or the oracle's `Date`.

        Every run starts with this: a Pi that was off for a night wakes up in yesterday's window.
        """
        before = self._clock.now()
        probe = self._patiently(self._transport.probe)
        after, skew = self._clock.now(), self._ledger.skew
        if self._clock.synchronized():
            trusted_by = "systemd-timesyncd"
        elif probe.date is not None and after - skew <= probe.date and probe.date + 1 <= before + skew:
            trusted_by = "the oracle's Date header"
        else:
            other = "does not tell the time" if probe.date is None else f"says {iso(probe.date)}"
            raise ClockDoubt(reason=f"not synchronized; our clock says {iso(after)}, the oracle {other}")
        self._ledger.open_window(trusted_by)
        self._vouched = True
        if probe.server is not None:
            self._ledger.note_server(probe.server)

    def _patiently(self, call: Callable[[], Probe]) -> Probe:
        for number in range(1, self._attempts + 1):
            try:
                return call()
            except Unauthorised as exc:
                raise NotAuthorised(url=self._transport.url, reason=exc) from exc
            except LockOut as exc:
                self._locked(exc.until)
            except (NotSent, Failed) as exc:
                if number == self._attempts:
                    raise Unreachable(url=self._transport.url, reason=exc) from exc
                self._pause(number, exc)
            except TransportError as exc:
                raise OracleFailing(url=self._transport.url, reason=exc) from exc
        raise AssertionError("unreachable")  # the last round always raises or returns

    def _locked(self, until: float | None) -> NoReturn:
        raise LockedOut(until=iso(self._ledger.lock_out(until)))

    def _pause(self, number: int, why: TransportError) -> None:
        """Exponential backoff with jitter: half to full of 0.5, 1, 2 ... 30 seconds."""
        seconds = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (number - 1)) * (0.5 + self._jitter() / 2)
        log.warning("attempt %d failed (%s); trying again in %.1f s", number, why, seconds)
        self._clock.sleep(seconds)
