"""The budget ledger: the one place that knows what was spent and what may still be spent.

    reserved -> sent -> settled          an answer arrived and is stored
        |         `-> sent, closed       the oracle may have counted it: spent, without an answer
        `-> refunded                     certain that no byte left this machine

Reservation and the window's total are one `BEGIN IMMEDIATE` transaction; `sent` is durable before the first byte goes
out. An attempt is charged to *every* window in which the oracle may have counted it, from a little before it was sent to
a little after it was closed: a query in flight across the reset is charged twice rather than once too little.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

import numpy as np

from pi_agent.clock import Clock, iso
from pi_agent.contract.answers import Answer, ServerBudget
from pi_agent.contract.windows import Period, Window, label
from pi_agent.errors import BudgetSpent, ClockDoubt, LockedOut
from pi_agent.store.db import Database


class WindowNotOpen(Exception):
    """The current window has not been opened yet: the clock must be vouched for first."""


@dataclass(frozen=True)
class Budget:
    """What the ledger says about one window; all counts are queries, moments are seconds since 1970."""

    day: str
    quota: int
    spent: int
    reserved: int
    refunded: int
    remaining: int
    resets_at: float
    locked_until: float | None


class Ledger:
    """The budget of one oracle. `quota` queries per `period`; `timeout`: longest time an attempt may be in flight."""

    def __init__(
        self, database: Database, oracle: str, quota: int, period: Period, clock: Clock, timeout: float = 60.0
    ) -> None:
        self._db, self.oracle, self.quota, self._period, self._clock = database, oracle, quota, period, clock
        self._timeout = timeout
        with database.transaction() as tx:
            tx.execute("INSERT OR IGNORE INTO oracle (id) VALUES (?)", (oracle,))

    @property
    def skew(self) -> float:
        """How far, in seconds, the oracle's clock may differ from ours (2 to 30, a tenth of a short period)."""
        return float(min(30.0, max(2.0, self._period.seconds * 0.1)))

    # -- reading ---------------------------------------------------------------------------------------------------

    def budget(self) -> Budget:
        """The current window, read without opening it."""
        with self._db.transaction() as tx:
            now = self._now(tx)
            window = self._window(tx, now)
            spent, reserved = self._charged(tx, window)
            locked = self._locked_until(tx)
            refunded = tx.execute(
                "SELECT count(*) FROM attempt WHERE oracle=? AND state='refunded' AND reserved_at>=? AND reserved_at<?",
                (self.oracle, window.start, window.end),
            ).fetchone()[0]
            left = 0 if locked > now else max(0, self._allowed(tx, window) - spent - reserved)
            return Budget(
                label(window, self._period),
                self.quota,
                spent,
                reserved,
                refunded,
                left,
                window.end,
                locked if locked > now else None,
            )

    def window_is_open(self) -> bool:
        """True when somebody has already vouched for the clock in the current window."""
        with self._db.transaction() as tx:
            return self._is_open(tx, self._window(tx, self._now(tx)))

    # -- spending --------------------------------------------------------------------------------------------------

    def open_window(self, trusted_by: str) -> None:
        """Open the current window; `trusted_by` says who vouched for the clock. Opening twice is harmless."""
        with self._db.transaction() as tx:
            now = self._clock.now()
            window = self._window(tx, now)
            if not window.contains(now):
                raise ClockDoubt(
                    reason=f"the clock says {iso(now)}, but the ledger has already seen {iso(window.start)}"
                )
            tx.execute(
                "INSERT OR IGNORE INTO budget_window (oracle, start, opened_at, trusted_by) VALUES (?, ?, ?, ?)",
                (self.oracle, window.start, now, trusted_by),
            )
            self._tick(tx)

    def reserve(self, image: str) -> int:
        """Take one query out of the current window for `image` and return the attempt's number.

        Raises `WindowNotOpen`, `BudgetSpent` (75) or `LockedOut` (75); then nothing was reserved.
        """
        with self._db.transaction() as tx:
            now = self._tick(tx)
            window = self._window(tx, now)
            locked = self._locked_until(tx)
            if locked > now:
                raise LockedOut(until=iso(locked))
            if not self._is_open(tx, window):
                raise WindowNotOpen
            if sum(self._charged(tx, window)) >= self._allowed(tx, window):
                raise BudgetSpent(quota=self.quota, resets_at=iso(window.end))
            row = tx.execute(
                "INSERT INTO attempt (oracle, image, state, reserved_at) VALUES (?, ?, 'reserved', ?)",
                (self.oracle, image, now),
            )
            return int(row.lastrowid or 0)

    def mark_sent(self, attempt: int) -> None:
        """From here on the query counts, whatever happens. Durable when this returns.

        The window may have ended since the reservation: the attempt is charged where it is sent, so it must fit there
        too. Raises `WindowNotOpen` or `BudgetSpent`; the attempt stays reserved.
        """
        with self._db.transaction() as tx:
            now = self._tick(tx)
            window = self._window(tx, now)
            if not self._is_open(tx, window):
                raise WindowNotOpen
            if sum(self._charged(tx, window)) > self._allowed(tx, window):
                raise BudgetSpent(quota=self.quota, resets_at=iso(window.end))
            self._move(tx, attempt, "reserved", "sent", sent_at=now)

    def settle(self, attempt: int, image: str, answer: Answer, server: ServerBudget | None) -> None:
        """Store the answer and close the attempt in one transaction."""
        with self._db.transaction() as tx:
            now = self._tick(tx)
            self._move(tx, attempt, "sent", "settled", closed_at=now, outcome="answered")
            tx.execute(
                "INSERT INTO answer (attempt, oracle, image, kind, vector, answered_at) VALUES (?, ?, ?, ?, ?, ?)",
                (attempt, self.oracle, image, answer.kind, answer.vector.astype(np.dtype("<f4")).tobytes(), now),
            )
            self._note_server(tx, now, server)

    def refund(self, attempt: int, why: str) -> None:
        """Give a query back: only where it is certain that no byte left this machine."""
        with self._db.transaction() as tx:
            now = self._tick(tx)
            tx.execute(
                "UPDATE attempt SET state='refunded', closed_at=?, outcome=? WHERE id=? AND state IN ('reserved','sent')",
                (now, why, attempt),
            )

    def close_unanswered(self, attempt: int, why: str, server: ServerBudget | None = None) -> None:
        """The query was sent and brought no usable answer: it stays spent."""
        with self._db.transaction() as tx:
            now = self._tick(tx)
            self._move(tx, attempt, "sent", "sent", closed_at=now, outcome=why)
            self._note_server(tx, now, server)

    def lock_out(self, until: float | None) -> float:
        """The oracle locked us out: nothing more until `until`, or until the window ends where it does not say."""
        with self._db.transaction() as tx:
            now = self._tick(tx)
            moment = until if until is not None else self._window(tx, now).end
            tx.execute("UPDATE oracle SET locked_until=max(locked_until, ?) WHERE id=?", (moment, self.oracle))
            return moment

    def note_server(self, server: ServerBudget) -> None:
        """Take in what the oracle says is left; it can only lower what the ledger allows."""
        with self._db.transaction() as tx:
            self._note_server(tx, self._now(tx), server)

    def recover(self) -> tuple[int, int]:
        """After a crash: refund what was reserved, keep what was sent as spent. Returns both counts.

        Call it only while holding the spender's lock: nobody else's attempt is then in flight.
        """
        with self._db.transaction() as tx:
            now = self._tick(tx)
            refunded = tx.execute(
                "UPDATE attempt SET state='refunded', closed_at=?, outcome='agent stopped before sending' "
                "WHERE oracle=? AND state='reserved'",
                (now, self.oracle),
            ).rowcount
            lost = tx.execute(
                "UPDATE attempt SET closed_at=min(?, sent_at + ?), outcome='agent stopped before the answer' "
                "WHERE oracle=? AND state='sent' AND closed_at IS NULL",
                (now, self._timeout, self.oracle),
            ).rowcount
            return refunded, lost

    # -- inside a transaction --------------------------------------------------------------------------------------

    def _now(self, tx: sqlite3.Connection) -> float:
        """The ledger's time: the wall clock, but never earlier than anything it has already recorded."""
        latest = tx.execute("SELECT latest FROM ledger_clock").fetchone()[0]
        return max(self._clock.now(), float(latest))

    def _tick(self, tx: sqlite3.Connection) -> float:
        """Ledger time, recorded, as long as it lies in an open window: a clock nobody vouched for leaves no trace."""
        now = self._now(tx)
        if self._is_open(tx, self._window(tx, now)):
            tx.execute("UPDATE ledger_clock SET latest=?", (now,))
        return now

    def _window(self, tx: sqlite3.Connection, now: float) -> Window:
        newest = tx.execute("SELECT max(start) FROM budget_window WHERE oracle=?", (self.oracle,)).fetchone()[0]
        window = self._period.window_at(now)
        return window if newest is None or window.start >= newest else self._period.window_at(float(newest))

    def _is_open(self, tx: sqlite3.Connection, window: Window) -> bool:
        sql = "SELECT 1 FROM budget_window WHERE oracle=? AND start=?"
        return tx.execute(sql, (self.oracle, window.start)).fetchone() is not None

    def _charged(self, tx: sqlite3.Connection, window: Window) -> tuple[int, int]:
        spent = tx.execute(
            "SELECT count(*) FROM attempt WHERE oracle=? AND state IN ('sent', 'settled') AND sent_at < ? "
            "AND (closed_at IS NULL OR closed_at >= ?)",
            (self.oracle, window.end + self.skew, window.start - self.skew),
        ).fetchone()[0]
        reserved = tx.execute(
            "SELECT count(*) FROM attempt WHERE oracle=? AND state='reserved'", (self.oracle,)
        ).fetchone()[0]
        return int(spent), int(reserved)

    def _allowed(self, tx: sqlite3.Connection, window: Window) -> int:
        row = tx.execute(
            "SELECT ceiling FROM budget_window WHERE oracle=? AND start=?", (self.oracle, window.start)
        ).fetchone()
        return self.quota if row is None or row[0] is None else min(self.quota, int(row[0]))

    def _locked_until(self, tx: sqlite3.Connection) -> float:
        return float(tx.execute("SELECT locked_until FROM oracle WHERE id=?", (self.oracle,)).fetchone()[0])

    def _note_server(self, tx: sqlite3.Connection, now: float, server: ServerBudget | None) -> None:
        window = self._window(tx, now)
        if server is None or abs(now + server.reset_in - window.start) <= self.skew + 1:
            return  # nothing said, or the oracle still speaks of the window that has just ended
        ceiling = self._charged(tx, window)[0] + max(0, server.remaining)
        tx.execute(
            "UPDATE budget_window SET ceiling=min(coalesce(ceiling, ?), ?) WHERE oracle=? AND start=?",
            (ceiling, ceiling, self.oracle, window.start),
        )

    @staticmethod
    def _move(tx: sqlite3.Connection, attempt: int, before: str, after: str, **values: object) -> None:
        columns = "".join(f", {name}=?" for name in values)
        cursor = tx.execute(
            f"UPDATE attempt SET state=?{columns} WHERE id=? AND state=? AND closed_at IS NULL",
            (after, *values.values(), attempt, before),
        )
        if cursor.rowcount != 1:
            raise RuntimeError(f"attempt {attempt} is not {before}: the ledger refuses to move it to {after}")
