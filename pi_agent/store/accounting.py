"""The ledger's arithmetic: what time it is, which window that is, and what each window is charged with.

Every function works inside a transaction that the ledger has opened.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from pi_agent.clock import Clock
from pi_agent.contract.answers import ServerBudget
from pi_agent.contract.windows import Period, Window

_CLOCK_STEP = 1.0
"""A clock that differs by more seconds than this has been set: whoever vouched for it must do so again."""


@dataclass(frozen=True)
class Charge:
    """Queries that a window is charged with: `closed` are over, `in_flight` may be counted or not, `reserved` not."""

    closed: int
    in_flight: int
    reserved: int

    @property
    def spent(self) -> int:
        """What the oracle may have counted."""
        return self.closed + self.in_flight

    @property
    def total(self) -> int:
        """What nobody else may have any more."""
        return self.spent + self.reserved


class Accounting:
    """The windows of one oracle, which has the number `key`: `quota` queries per `period`."""

    def __init__(self, key: int, quota: int, period: Period, clock: Clock) -> None:
        self.key, self.quota, self.period, self.clock = key, quota, period, clock
        self._noted = 0  # the newest attempt when the oracle's least word was noted
        self._offset: float | None = None  # wall clock minus stopwatch, when somebody vouched for the wall clock

    @property
    def skew(self) -> float:
        """How far, in seconds, the oracle's clock may differ from ours (2 to 30, a tenth of a short period)."""
        return float(min(30.0, max(2.0, self.period.seconds * 0.1)))

    def now(self, tx: sqlite3.Connection) -> float:
        """The ledger's time: the wall clock, but never earlier than anything it has already recorded."""
        return max(self.clock.now(), self._latest(tx))

    def tick(self, tx: sqlite3.Connection) -> float:
        """Ledger time, recorded, as long as it lies in an open window: a clock nobody vouched for leaves no trace."""
        now = self.now(tx)
        if not self.was_set(tx) and self.is_open(tx, self.window(tx, now)):
            self.set_latest(tx, now)
        return now

    def set_latest(self, tx: sqlite3.Connection, now: float) -> None:
        """Record a moment that somebody has vouched for."""
        tx.execute("UPDATE ledger_clock SET latest=?", (now,))

    def vouched(self) -> None:
        """Somebody has vouched for what the wall clock shows now."""
        self._offset = self.clock.now() - self.clock.elapsed()

    def was_set(self, tx: sqlite3.Connection) -> bool:
        """True when the wall clock has been set since somebody vouched for it, or shows an earlier time than it did."""
        now = self.clock.now()
        stepped = self._offset is not None and abs(now - self.clock.elapsed() - self._offset) > _CLOCK_STEP
        return stepped or now < self._latest(tx) - _CLOCK_STEP

    def window(self, tx: sqlite3.Connection, now: float) -> Window:
        """The window at `now`, but never one before the newest that was opened."""
        newest = tx.execute("SELECT max(start) FROM budget_window WHERE oracle=?", (self.key,)).fetchone()[0]
        window = self.period.window_at(now)
        return window if newest is None or window.start >= newest else self.period.window_at(float(newest))

    def still_possible(self, now: float) -> Iterator[Window]:
        """Earlier windows that may not have ended yet on the oracle's clock."""
        window, current = self.period.window_at(now - self.skew), self.period.window_at(now)
        while window.start < current.start:
            yield window
            window = self.period.window_at(window.end)

    def is_open(self, tx: sqlite3.Connection, window: Window) -> bool:
        """True when somebody vouched for the clock in this window."""
        sql = "SELECT 1 FROM budget_window WHERE oracle=? AND start=?"
        return tx.execute(sql, (self.key, window.start)).fetchone() is not None

    def charge(self, tx: sqlite3.Connection, window: Window) -> Charge:
        """What `window` is charged with: every attempt that the oracle may have counted in it, and reservations."""
        closed = tx.execute(
            "SELECT count(*) FROM attempt WHERE oracle=? AND closed_at >= ? AND sent_at < ? "
            "AND state IN ('sent', 'settled')",
            (self.key, window.start - self.skew, window.end + self.skew),
        ).fetchone()[0]
        in_flight, reserved = tx.execute(
            "SELECT coalesce(sum(state='sent' AND sent_at < ?), 0), coalesce(sum(state='reserved'), 0) "
            "FROM attempt WHERE oracle=? AND closed_at IS NULL",
            (window.end + self.skew, self.key),
        ).fetchone()
        return Charge(int(closed), int(in_flight), int(reserved))

    def left(self, tx: sqlite3.Connection, window: Window) -> tuple[int, int]:
        """What may still be reserved in `window`: in all, and by our own quota alone.

        Below zero where the oracle gave us less than was spent.
        """
        row = tx.execute(
            "SELECT ceiling FROM budget_window WHERE oracle=? AND start=?", (self.key, window.start)
        ).fetchone()
        allowed = self.quota if row is None or row[0] is None else min(self.quota, int(row[0]))
        total = self.charge(tx, window).total
        return allowed - total, self.quota - total

    def note_server(
        self, tx: sqlite3.Connection, now: float, server: ServerBudget | None, overtaken: int = 0, attempt: int = 0
    ) -> None:
        """Lower what the window allows to what the oracle says is left; `attempt` has just been closed by its answer.

        The ceiling is what the oracle had certainly counted when it spoke, plus what it said was left: never above the
        truth. Not certain is what is in flight, and what ended without a word on the quota while this answer was on its
        way: `overtaken`. Answers overtake each other, so the least that it said is the latest. Whoever was in flight
        then and comes back with a higher figure was counted before: now that is certain, too.
        """
        window = self.window(tx, now)
        if server is None or abs(now + server.reset_in - window.start) <= self.skew + 1:
            return  # nothing said, or the oracle still speaks of the window that has just ended
        row = tx.execute(
            "SELECT ceiling, server_remaining FROM budget_window WHERE oracle=? AND start=?", (self.key, window.start)
        ).fetchone()
        if row is None:
            return
        remaining = max(0, server.remaining)
        if row[1] is None or remaining <= row[1]:
            ceiling, least = self.charge(tx, window).closed - overtaken + remaining, remaining
            self._noted = tx.execute("SELECT coalesce(max(id), 0) FROM attempt").fetchone()[0]
        elif attempt and attempt <= self._noted:
            ceiling, least = row[0] + 1, row[1]
        else:
            return
        tx.execute(
            "UPDATE budget_window SET ceiling=?, server_remaining=? WHERE oracle=? AND start=?",
            (ceiling, least, self.key, window.start),
        )

    def locked_until(self, tx: sqlite3.Connection) -> float:
        """When the last lock-out ends; 0 where there was none."""
        return float(tx.execute("SELECT locked_until FROM oracle WHERE id=?", (self.key,)).fetchone()[0])

    def _latest(self, tx: sqlite3.Connection) -> float:
        return float(tx.execute("SELECT latest FROM ledger_clock").fetchone()[0])
