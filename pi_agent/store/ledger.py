"""The budget ledger: the one place that knows what was spent and what may still be spent.

    reserved -> sent -> settled          an answer arrived and is stored
        |         `-> sent, closed       the oracle may have counted it: spent, without an answer
        `-> refunded                     certain that no byte left this machine

Reservation and the window's total are one `BEGIN IMMEDIATE` transaction; `sent` is durable before the first byte goes
out. An attempt is charged to *every* window in which the oracle may have counted it, from a little before it was sent
to a little after it was closed: a query in flight across the reset is charged twice rather than once too little.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

import numpy as np

from pi_agent.clock import Clock
from pi_agent.contract.answers import Answer, ServerBudget
from pi_agent.contract.windows import MAX_PERIOD, Period, iso, label
from pi_agent.errors import BudgetSpent, ClockDoubt, LockedOut
from pi_agent.store.accounting import Accounting
from pi_agent.store.db import Database


class WindowNotOpen(Exception):
    """The current window has not been opened yet, or the clock fell back: it must be vouched for first."""


class TooSoon(Exception):
    """The last window is spent and may not have ended yet on the oracle's clock: come back after `wait` seconds."""

    def __init__(self, wait: float) -> None:
        super().__init__(f"come back in {wait:g} s")
        self.wait = wait


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
        self._db, self._clock, self._timeout = database, clock, timeout
        self.oracle, self.quota, self._period = oracle, quota, period
        self._books = Accounting(oracle, quota, period, clock)
        self.skew = self._books.skew
        with database.transaction() as tx:
            tx.execute("INSERT OR IGNORE INTO oracle (id) VALUES (?)", (oracle,))

    # -- reading ---------------------------------------------------------------------------------------------------

    def budget(self) -> Budget:
        """The current window, read without opening it."""
        with self._db.transaction() as tx:
            now = self._books.now(tx)
            window = self._books.window(tx, now)
            spent, reserved = self._books.charged(tx, window)
            locked = self._books.locked_until(tx)
            refunded = tx.execute(
                "SELECT count(*) FROM attempt WHERE oracle=? AND state='refunded' AND reserved_at>=? AND reserved_at<?",
                (self.oracle, window.start, window.end),
            ).fetchone()[0]
            left = 0 if locked > now else max(0, self._books.left(tx, window))
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

    # -- spending --------------------------------------------------------------------------------------------------

    def open_window(self, trusted_by: str) -> None:
        """Open the current window; `trusted_by` says who vouched for the clock. Opening twice is harmless.

        Raises `ClockDoubt` (69) for a clock that has fallen back behind the newest window.
        """
        with self._db.transaction() as tx:
            now = self._clock.now()
            window = self._books.window(tx, now)
            if not window.contains(now):
                raise ClockDoubt(
                    reason=f"the clock says {iso(now)}, but the ledger has already seen {iso(window.start)}"
                )
            tx.execute(
                "INSERT OR IGNORE INTO budget_window (oracle, start, opened_at, trusted_by) VALUES (?, ?, ?, ?)",
                (self.oracle, window.start, now, trusted_by),
            )
            self._books.set_latest(tx, now)

    def reserve(self, image: str) -> int:
        """Take one query out of the current window for `image` and return the attempt's number.

        Raises `WindowNotOpen`, `TooSoon`, `BudgetSpent` (75) or `LockedOut` (75); then nothing was reserved.
        """
        with self._db.transaction() as tx:
            now = self._check_room(tx, own=0)
            row = tx.execute(
                "INSERT INTO attempt (oracle, image, state, reserved_at) VALUES (?, ?, 'reserved', ?)",
                (self.oracle, image, now),
            )
            return int(row.lastrowid or 0)

    def mark_sent(self, attempt: int) -> None:
        """From here on the query counts, whatever happens. Durable when this returns.

        The window may have ended since the reservation: the attempt is charged where it is sent, so it must fit there
        too. Raises the same as `reserve`; the attempt stays reserved.
        """
        with self._db.transaction() as tx:
            now = self._check_room(tx, own=1)
            self._move(tx, attempt, "reserved", "sent", sent_at=now)

    def settle(self, attempt: int, image: str, answer: Answer, server: ServerBudget | None) -> None:
        """Store the answer and close the attempt in one transaction."""
        with self._db.transaction() as tx:
            now, closed_at = self._end_of(tx, attempt)
            self._move(tx, attempt, "sent", "settled", closed_at=closed_at, outcome="answered")
            tx.execute(
                "INSERT INTO answer (attempt, oracle, image, kind, vector, answered_at) VALUES (?, ?, ?, ?, ?, ?)",
                (attempt, self.oracle, image, answer.kind, answer.vector.astype(np.dtype("<f4")).tobytes(), now),
            )
            self._books.note_server(tx, now, server)

    def refund(self, attempt: int, why: str) -> None:
        """Give an open query back: only where it is certain that no byte left this machine."""
        with self._db.transaction() as tx:
            now = self._books.tick(tx)
            state = tx.execute("SELECT state FROM attempt WHERE id=?", (attempt,)).fetchone()[0]
            self._move(tx, attempt, "sent" if state == "sent" else "reserved", "refunded", closed_at=now, outcome=why)

    def close_unanswered(self, attempt: int, why: str, server: ServerBudget | None = None) -> None:
        """The query was sent and brought no usable answer: it stays spent."""
        with self._db.transaction() as tx:
            now, closed_at = self._end_of(tx, attempt)
            self._move(tx, attempt, "sent", "sent", closed_at=closed_at, outcome=why)
            self._books.note_server(tx, now, server)

    def lock_out(self, until: float | None) -> float:
        """The oracle locked us out: nothing more until `until`, or until the window ends where it does not say.

        Returns the moment. An `until` that has long passed says nothing; none is believed beyond a year.
        """
        with self._db.transaction() as tx:
            now = self._books.tick(tx)
            window = self._books.window(tx, now)
            if until is None or until < now - self.skew:
                if not self._books.is_open(tx, window):
                    return window.end  # a guess from a clock nobody vouched for: end this run, but record nothing
                until = window.end
            moment = min(max(until, now + self.skew), now + MAX_PERIOD)
            tx.execute("UPDATE oracle SET locked_until=max(locked_until, ?) WHERE id=?", (moment, self.oracle))
            return moment

    def note_server(self, server: ServerBudget) -> None:
        """Take in what the oracle says is left; it can only lower what the ledger allows."""
        with self._db.transaction() as tx:
            self._books.note_server(tx, self._books.now(tx), server)

    def recover(self) -> tuple[int, int]:
        """After a crash: refund what was reserved, keep what was sent as spent. Returns both counts.

        Nobody knows when it crashed, so what was sent may have been in flight for the longest possible time. Call it
        only while holding the spender's lock: nobody else's attempt is then in flight.
        """
        with self._db.transaction() as tx:
            now = self._books.tick(tx)
            refunded = tx.execute(
                "UPDATE attempt SET state='refunded', closed_at=?, outcome='agent stopped before sending' "
                "WHERE oracle=? AND state='reserved'",
                (now, self.oracle),
            ).rowcount
            lost = tx.execute(
                "UPDATE attempt SET closed_at=sent_at + ?, outcome='agent stopped before the answer' "
                "WHERE oracle=? AND state='sent' AND closed_at IS NULL",
                (self._timeout, self.oracle),
            ).rowcount
            return refunded, lost

    # -- inside a transaction --------------------------------------------------------------------------------------

    def _check_room(self, tx: sqlite3.Connection, own: int) -> float:
        """Ledger time, if a query may be sent now; `own` reservations are the caller's. Raises what `reserve` does."""
        fell_back = self._books.fell_back(tx)
        now = self._books.tick(tx)
        window = self._books.window(tx, now)
        locked = self._books.locked_until(tx)
        if locked > now:
            raise LockedOut(until=iso(locked))
        if fell_back or not self._books.is_open(tx, window):
            raise WindowNotOpen
        if self._books.left(tx, window) + own < 1:
            raise BudgetSpent(quota=self.quota, resets_at=iso(window.end))
        full = [w for w in self._books.still_possible(now) if self._books.left(tx, w) + own < 1]
        if full:
            raise TooSoon(full[-1].end + self.skew - now)
        return now

    def _end_of(self, tx: sqlite3.Connection, attempt: int) -> tuple[float, float]:
        """Ledger time, and when the attempt ended: at the latest possible moment if the clock fell back meanwhile."""
        fell_back = self._books.fell_back(tx)
        now = self._books.tick(tx)
        sent_at = tx.execute("SELECT sent_at FROM attempt WHERE id=?", (attempt,)).fetchone()[0]
        return now, (sent_at or now) + self._timeout if fell_back else now

    @staticmethod
    def _move(tx: sqlite3.Connection, attempt: int, before: str, after: str, **values: object) -> None:
        columns = "".join(f", {name}=?" for name in values)
        cursor = tx.execute(
            f"UPDATE attempt SET state=?{columns} WHERE id=? AND state=? AND closed_at IS NULL",
            (after, *values.values(), attempt, before),
        )
        if cursor.rowcount != 1:
            raise RuntimeError(f"attempt {attempt} is not {before}: the ledger refuses to move it to {after}")
