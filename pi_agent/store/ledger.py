"""The budget ledger: the one place that knows what was spent and what may still be spent.

Reservation and the window's total are one `BEGIN IMMEDIATE` transaction; `sent` is durable before the first byte goes
out. An attempt is charged to *every* window in which the oracle may have counted it, from a little before it was sent
to a little after it was closed: a query in flight across the reset is charged twice rather than once too little. The
moves themselves are in `turn`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from pi_agent.clock import Clock
from pi_agent.contract.answers import Answer, ServerBudget
from pi_agent.contract.windows import Period, iso, label
from pi_agent.errors import ClockDoubt
from pi_agent.store.accounting import Accounting
from pi_agent.store.db import Database
from pi_agent.store.turn import TooSoon, Turn, WindowNotOpen

__all__ = ["Budget", "Ledger", "TooSoon", "Turn", "WindowNotOpen"]


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
        key = database.value("SELECT id FROM oracle WHERE name=?", oracle)
        if key is None:
            with database.transaction() as tx:
                tx.execute("INSERT OR IGNORE INTO oracle (name) VALUES (?)", (oracle,))
            key = database.value("SELECT id FROM oracle WHERE name=?", oracle)
        self._books = Accounting(int(str(key)), quota, period, clock)
        self.skew = self._books.skew

    def budget(self) -> Budget:
        """The current window, read without opening it."""
        with self._db.snapshot() as tx:
            now = self._books.now(tx)
            window = self._books.window(tx, now)
            charge = self._books.charge(tx, window)
            locked = self._books.locked_until(tx)
            refunded = tx.execute(
                "SELECT count(*) FROM attempt WHERE oracle=? AND state='refunded' AND closed_at>=? AND reserved_at>=? "
                "AND reserved_at<?",
                (self._books.key, window.start, window.start, window.end),
            ).fetchone()[0]
            left = 0 if locked > now else max(0, self._books.left(tx, window)[0])
            return Budget(
                label(window, self._period),
                self.quota,
                charge.spent,
                charge.reserved,
                refunded,
                left,
                window.end,
                locked if locked > now else None,
            )

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
                (self._books.key, window.start, now, trusted_by),
            )
            self._books.set_latest(tx, now)
        self._books.vouched()

    @contextlib.contextmanager
    def turn(self) -> Iterator[Turn]:
        """One durable transaction of moves: all of them, or none where the block raises."""
        with self._db.transaction() as tx:
            yield Turn(tx, self._books, self._timeout)

    # -- turns of a single move --------------------------------------------------------------------------------------

    def reserve(self, image: str, keep: int = 0) -> int:
        """Take one query out of the current window for `image` and return the attempt's number.

        Raises `WindowNotOpen`, `TooSoon`, `BudgetSpent` (75) or `LockedOut` (75); then nothing was reserved.
        """
        with self.turn() as turn:
            turn.room(keep)
            return turn.reserve(image)

    def mark_sent(self, attempt: int) -> None:
        """Durably spend a query that was reserved earlier. Raises the same as `reserve`; then it stays reserved.

        The window may have ended since the reservation: the attempt is charged where it is sent and must fit there too.
        """
        with self.turn() as turn:
            turn.room(own=1)
            turn.mark_sent(attempt)

    def settle(self, attempt: int, answer: Answer, server: ServerBudget | None) -> None:
        """Store the answer and close the attempt in one transaction."""
        with self.turn() as turn:
            turn.settle(attempt, answer, server)

    def close_unanswered(self, attempt: int, why: str, server: ServerBudget | None = None) -> None:
        """The query was sent and brought no usable answer: it stays spent."""
        with self.turn() as turn:
            turn.close_unanswered(attempt, why, server)

    def refund(self, attempt: int, why: str) -> None:
        """Give an open query back: only where it is certain that no byte left this machine."""
        with self.turn() as turn:
            turn.refund(attempt, why)

    def lock_out(self, until: float | None) -> float:
        """Ask nothing until `until`, or until the window ends; returns the moment."""
        with self.turn() as turn:
            return turn.lock_out(until)

    def note_server(self, server: ServerBudget) -> None:
        """Take in what the oracle says is left; it can only lower what the ledger allows."""
        with self.turn() as turn:
            turn.note_server(server)

    def recover(self) -> tuple[int, int]:
        """After a crash: refund what was reserved, keep what was sent as spent. Returns both counts.

        Call it only while holding the spender's lock: nobody else's attempt is then in flight. Every run that spends
        begins with it, so it looks at the books first: a damaged index would count too little. Raises
        `DamagedDatabase` (74).
        """
        self._db.check("oracle", "budget_window", "attempt", "answer", "ledger_clock")
        with self.turn() as turn:
            return turn.recover()
