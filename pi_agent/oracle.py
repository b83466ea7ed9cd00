"""The only place where queries are spent: cache -> ledger -> transport -> retry.

Whoever wants answers calls `Oracle.ask` for one picture or `Oracle.ask_all` for many. Retries stand above the ledger:
every further attempt is a new reservation, because the oracle may have counted the one before.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable

from pi_agent.asking import Asking, Bounds, Landed, NoAnswer, Outcome
from pi_agent.clock import Clock
from pi_agent.contract.answers import Answer
from pi_agent.contract.images import QueryImage
from pi_agent.contract.log import event
from pi_agent.contract.windows import iso
from pi_agent.crew import Crew
from pi_agent.errors import BudgetSpent, ClockDoubt, LockedOut, NotAuthorised, OracleFailing, Unreachable
from pi_agent.interruption import Interruption
from pi_agent.pacing import Pacing
from pi_agent.store.labels import Labels
from pi_agent.store.ledger import Ledger, TooSoon, WindowNotOpen
from pi_agent.transports.base import Failed, LockOut, NotSent, Probe, Transport, TransportError, Unauthorised

__all__ = ["NoAnswer", "Oracle"]

log = logging.getLogger(__name__)

_UNBOUNDED = Bounds()
GRACE = 5.0
"""Seconds that a stopped run waits for answers that are paid for and on their way."""


class Oracle:
    """One oracle behind one ledger. Use it only while holding the spender's lock.

    `connect` opens a transport; `attempts`: how often one image may be tried; `in_flight`: queries at the same time.
    """

    def __init__(
        self,
        ledger: Ledger,
        labels: Labels,
        connect: Callable[[], Transport],
        clock: Clock,
        attempts: int,
        in_flight: int = 1,
        jitter: Callable[[], float] = random.random,
        stop: Interruption | None = None,
    ) -> None:
        self._ledger, self._labels, self._clock = ledger, labels, clock
        self._open, self._spare = connect, [connect()]
        self.url = self._spare[0].url
        self._attempts, self._in_flight = attempts, in_flight
        self._pacing = Pacing(in_flight, jitter)
        self._stop = stop or Interruption()
        self._vouched = False
        self._probed_at = -1
        self._asking: Asking | None = None
        self._sent_before = 0

    @property
    def sent(self) -> int:
        """Queries that this object has spent."""
        return self._sent_before + (self._asking.sent if self._asking else 0)

    def ask(
        self, image: QueryImage, *, fresh: bool = False, at_most: int | None = None, keep: int = 0
    ) -> tuple[Answer, bool]:
        """The answer for one image and whether it came from the cache. `fresh=True` asks again (noise averaging).

        `at_most`: queries that may be spent on it; `keep`: queries of the window to be left alone.

        Raises `BudgetSpent`, `LockedOut` (75), `Unreachable`, `OracleFailing`, `ClockDoubt` (69), `NotAuthorised` (77),
        or `NoAnswer` where only this image failed.
        """
        if not fresh and (cached := self._labels.get(image.sha256)) is not None:
            return cached, True
        found: list[Outcome] = []
        self.ask_all([image], lambda _, outcome: found.append(outcome), Bounds(at_most, keep))
        if not found:
            raise NoAnswer("no query was left for it")
        if isinstance(found[0], NoAnswer):
            raise found[0]
        return found[0], False

    def ask_all(self, images: Iterable[QueryImage], landed: Landed, bounds: Bounds = _UNBOUNDED) -> None:
        """Ask about every image until there are none, the budget is spent or the oracle fails.

        `landed` is called in this thread for every image that has its answer, which is stored by then, or that will
        get none. `images` is read piece by piece and may depend on what has landed.

        Raises what `ask` does, except `NoAnswer`, after everything under way has landed, and `KeyboardInterrupt` when
        told to stop.
        """
        crew = Crew(self._connect, self._in_flight)
        self._sent_before, self._asking = self.sent, None
        self._asking = asking = Asking(
            self._ledger,
            crew,
            self._clock,
            self._pacing,
            self._attempts,
            self.url,
            self._labels.classes(),
            iter(images),
            landed,
            bounds,
        )
        self._stop.tells(crew.wake)
        try:
            while not self._stop.asked:
                asking.fill()
                if asking.idle:
                    if not self._clear(asking.obstacle()):
                        return
                elif not self._vouched:
                    self._open_window()
                else:
                    asking.turn()
            self._wind_up(asking, crew)
        finally:
            self._stop.tells(lambda: None)
            crew.dismiss()

    def close(self) -> None:
        """Give connections back."""
        while self._spare:
            self._spare.pop().close()

    def _clear(self, obstacle: Exception | float | None) -> bool:
        """Do what lets the stream go on; False where it has come to its end. Raises what cannot be cleared."""
        if obstacle is None:
            return False
        if isinstance(obstacle, WindowNotOpen):
            self._open_window()
        elif isinstance(obstacle, TooSoon):
            self._sleep(obstacle.wait)
        elif isinstance(obstacle, BudgetSpent) and obstacle.told_by_oracle and self._probed_at != self.sent:
            # What it said while several queries were under way was taken at its worst. Now nothing is: ask once more.
            self._hear(self._probe())
        elif isinstance(obstacle, Exception):
            raise obstacle
        else:
            self._sleep(obstacle)
        return True

    def _wind_up(self, asking: Asking, crew: Crew) -> None:
        """Told to stop: what is under way is paid for, so wait a little for it."""
        end = time.monotonic() + GRACE
        while crew.under_way and (left := end - time.monotonic()) > 0:
            asking.turn(left, sending=False)
        raise KeyboardInterrupt

    # -- the clock ---------------------------------------------------------------------------------------------------

    def _open_window(self) -> None:
        """Open the budget window, if somebody vouches for the clock: the system or the oracle's `Date`.

        Every run starts with this: a Pi that was off for a night wakes up in yesterday's window.
        """
        before = self._clock.now()
        probe = self._probe()
        after, skew = self._clock.now(), self._ledger.skew
        if self._clock.synchronized():
            trusted_by = "the system's clock"
        elif probe.date is not None and after - skew <= probe.date and probe.date + 1 <= before + skew:
            trusted_by = "the oracle's clock"
        else:
            other = "does not tell the time" if probe.date is None else f"says {iso(probe.date)}"
            raise ClockDoubt(reason=f"not synchronized; our clock says {iso(after)}, the oracle {other}")
        self._ledger.open_window(trusted_by)
        self._vouched = True
        log.debug(event("window-open", trusted_by=trusted_by))
        self._hear(probe)

    def _hear(self, probe: Probe) -> None:
        """Take in what the oracle says is left while nothing is under way."""
        self._probed_at = self.sent
        if probe.server is not None:
            log.debug(event("oracle-says", remaining=probe.server.remaining, reset_in=probe.server.reset_in))
            self._ledger.note_server(probe.server)

    def _probe(self) -> Probe:
        transport = self._connect()
        try:
            for number in range(1, self._attempts + 1):
                try:
                    with self._stop.welcome():
                        return transport.probe()
                except Unauthorised as exc:
                    raise NotAuthorised(url=self.url, reason=exc) from exc
                except LockOut as exc:
                    raise LockedOut(until=iso(self._ledger.lock_out(exc.until))) from exc
                except (NotSent, Failed) as exc:
                    if number == self._attempts:
                        raise Unreachable(url=self.url, reason=exc) from exc
                    pause = self._pacing.pause(number)
                    log.warning(event("probe-failed", tries=number, why=exc, pause=pause))
                    self._sleep(pause)
                except TransportError as exc:
                    raise OracleFailing(url=self.url, reason=exc) from exc
        finally:
            self._spare.append(transport)
        raise AssertionError("unreachable")  # the last round always raises or returns

    def _sleep(self, seconds: float) -> None:
        with self._stop.welcome():
            self._clock.sleep(max(0.0, seconds))

    def _connect(self) -> Transport:
        """A connection that nobody is using, or a new one. The crew's threads call it too: `pop` is atomic."""
        try:
            return self._spare.pop()
        except IndexError:
            return self._open()
