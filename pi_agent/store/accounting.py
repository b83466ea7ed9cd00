"""The ledger's arithmetic: what time it is, which window that is, and what each window is charged with.

Every function works inside a transaction that the ledger has opened.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from pi_agent.clock import Clock
from pi_agent.contract.answers import ServerBudget
from pi_agent.contract.windows import Period, Window

_CLOCK_STEP = 1.0
"""A clock that falls back by more seconds than this has been set: whoever vouched for it must do so again."""


class Accounting:
    """The windows of one oracle: `quota` queries per `period`."""

    def __init__(self, oracle: str, quota: int, period: Period, clock: Clock) -> None:
        self.oracle, self.quota, self.period, self.clock = oracle, quota, period, clock

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
        if self.is_open(tx, self.window(tx, now)):
            self.set_latest(tx, now)
        return now

    def set_latest(self, tx: sqlite3.Connection, now: float) -> None:
        """Record a moment that somebody has vouched for."""
        tx.execute("UPDATE ledger_clock SET latest=?", (now,))

    def fell_back(self, tx: sqlite3.Connection) -> bool:
        """True when the wall clock has been set back since the ledger last looked."""
        return self.clock.now() < self._latest(tx) - _CLOCK_STEP

    def window(self, tx: sqlite3.Connection, now: float) -> Window:
        """The window at `now`, but never one before the newest that was opened."""
        newest = tx.execute("SELECT max(start) FROM budget_window WHERE oracle=?", (self.oracle,)).fetchone()[0]
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
        return tx.execute(sql, (self.oracle, window.start)).fetchone() is not None

    def charged(self, tx: sqlite3.Connection, window: Window) -> tuple[int, int]:
        """Queries that the oracle may have counted in `window`, and queries reserved."""
        spent = tx.execute(
            "SELECT count(*) FROM attempt WHERE oracle=? AND state IN ('sent', 'settled') AND sent_at < ? "
            "AND (closed_at IS NULL OR closed_at >= ?)",
            (self.oracle, window.end + self.skew, window.start - self.skew),
        ).fetchone()[0]
        reserved = tx.execute(
            "SELECT count(*) FROM attempt WHERE oracle=? AND state='reserved'", (self.oracle,)
        ).fetchone()[0]
        return int(spent), int(reserved)

    def left(self, tx: sqlite3.Connection, window: Window) -> int:
        """What may still be reserved in `window`; below zero where the oracle gave us less than was spent."""
        row = tx.execute(
            "SELECT ceiling FROM budget_window WHERE oracle=? AND start=?", (self.oracle, window.start)
        ).fetchone()
        allowed = self.quota if row is None or row[0] is None else min(self.quota, int(row[0]))
        return allowed - sum(self.charged(tx, window))

    def note_server(self, tx: sqlite3.Connection, now: float, server: ServerBudget | None) -> None:
        """Lower the window's ceiling to what the oracle says is left; never raise it."""
        window = self.window(tx, now)
        if server is None or abs(now + server.reset_in - window.start) <= self.skew + 1:
            return  # nothing said, or the oracle still speaks of the window that has just ended
        ceiling = self.charged(tx, window)[0] + max(0, server.remaining)
        tx.execute(
            "UPDATE budget_window SET ceiling=min(coalesce(ceiling, ?), ?) WHERE oracle=? AND start=?",
            (ceiling, ceiling, self.oracle, window.start),
        )

    def locked_until(self, tx: sqlite3.Connection) -> float:
        """When the last lock-out ends; 0 where there was none."""
        return float(tx.execute("SELECT locked_until FROM oracle WHERE id=?", (self.oracle,)).fetchone()[0])

    def _latest(self, tx: sqlite3.Connection) -> float:
        return float(tx.execute("SELECT latest FROM ledger_clock").fetchone()[0])
