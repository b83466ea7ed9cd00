"""The ledger's moves: everything that one durable transaction may do with queries.

    reserved -> sent -> settled          an answer arrived and is stored
        |         `-> sent, closed       the oracle may have counted it: spent, without an answer
        `-> refunded                     certain that no byte left this machine

A turn closes what came back and takes what goes out next, many queries at once: one sync of the SD card for all.
"""

from __future__ import annotations

import json
import sqlite3

import numpy as np

from pi_agent.contract.answers import Answer, ServerBudget
from pi_agent.contract.windows import MAX_PERIOD, iso
from pi_agent.errors import BudgetSpent, LockedOut
from pi_agent.store.accounting import Accounting


class WindowNotOpen(Exception):
    """The current window has not been opened yet, or the clock fell back: it must be vouched for first."""


class TooSoon(Exception):
    """The last window is spent and may not have ended yet on the oracle's clock: come back after `wait` seconds."""

    def __init__(self, wait: float) -> None:
        super().__init__(f"come back in {wait:g} s")
        self.wait = wait


class Turn:
    """Moves inside the transaction `tx`. `timeout`: longest time in seconds that an attempt may be in flight."""

    def __init__(self, tx: sqlite3.Connection, books: Accounting, timeout: float) -> None:
        self._tx, self._books, self._timeout = tx, books, timeout
        self._was_set = books.was_set(tx)
        self.now = books.tick(tx)

    # -- taking ----------------------------------------------------------------------------------------------------

    def room(self, keep: int = 0, own: int = 0) -> int:
        """How many queries may go out now, at least one; `keep` are left alone, `own` reservations are the caller's.

        Raises `WindowNotOpen`, `TooSoon`, `BudgetSpent` (75) or `LockedOut` (75).
        """
        window = self._books.window(self._tx, self.now)
        locked = self._books.locked_until(self._tx)
        if locked > self.now:
            raise LockedOut(until=iso(locked))
        if self._was_set or not self._books.is_open(self._tx, window):
            raise WindowNotOpen
        room, by_quota = (left + own for left in self._books.left(self._tx, window))
        if room - keep < 1:
            kept = f", {keep} of them kept in reserve," if room > 0 else ""
            told = room < by_quota
            raise BudgetSpent(quota=self._books.quota, kept=kept, resets_at=iso(window.end), told_by_oracle=told)
        earlier = [(self._books.left(self._tx, w)[0] + own, w.end) for w in self._books.still_possible(self.now)]
        if full := [end for left, end in earlier if left < 1]:
            raise TooSoon(full[-1] + self._books.skew - self.now)
        return min([room - keep, *(left for left, _ in earlier)])

    def reserve(self, image: str) -> int:
        """Take one query for `image` and return the attempt's number. Ask for `room` first."""
        row = self._tx.execute(
            "INSERT INTO attempt (oracle, image, state, reserved_at) SELECT ?, seq, 'reserved', ? FROM image "
            "WHERE sha256=?",
            (self._books.key, self.now, image),
        )
        if row.rowcount != 1:
            raise RuntimeError(f"{image} is not in the database: the ledger refuses to ask about it")
        return int(row.lastrowid or 0)

    def mark_sent(self, attempt: int) -> None:
        """From here on the query counts, whatever happens: durable when the turn has ended, before a byte goes out."""
        self._move(attempt, "reserved", "sent", sent_at=self.now)

    # -- closing ---------------------------------------------------------------------------------------------------

    def settle(
        self,
        attempt: int,
        answer: Answer,
        server: ServerBudget | None,
        overtaken: int = 0,
        took: float | None = None,
    ) -> None:
        """Store the answer and close the attempt. The first answer says which classes the oracle has.

        `took`: seconds from `mark_sent` to now by a clock that nobody can set; without it the wall clock has to do.
        `overtaken`: attempts that ended without a word on the quota while this one was under way.
        """
        ended = self._ended(attempt, took)
        self._move(attempt, "sent", "settled", closed_at=ended, outcome="answered")
        self._tx.execute(
            "UPDATE oracle SET classes=? WHERE id=? AND classes IS NULL",
            (json.dumps(answer.classes), self._books.key),
        )
        self._tx.execute(
            "INSERT INTO answer (attempt, oracle, image, kind, vector, answered_at) "
            "SELECT id, oracle, image, ?, ?, ? FROM attempt WHERE id=?",
            (answer.kind, answer.vector.astype(np.dtype("<f4")).tobytes(), ended, attempt),
        )
        self.note_server(server, overtaken, attempt)

    def close_unanswered(
        self,
        attempt: int,
        why: str,
        server: ServerBudget | None = None,
        overtaken: int = 0,
        took: float | None = None,
    ) -> None:
        """The query was sent and brought no usable answer: it stays spent. Arguments as those of `settle`."""
        self._move(attempt, "sent", "sent", closed_at=self._ended(attempt, took), outcome=why[:500])
        self.note_server(server, overtaken, attempt)

    def refund(self, attempt: int, why: str) -> None:
        """Give an open query back: only where it is certain that no byte left this machine."""
        state, began = self._tx.execute(
            "SELECT state, coalesce(sent_at, reserved_at) FROM attempt WHERE id=?", (attempt,)
        ).fetchone()
        before = "sent" if state == "sent" else "reserved"
        self._move(attempt, before, "refunded", closed_at=began, outcome=why[:500])

    def note_server(self, server: ServerBudget | None, overtaken: int = 0, attempt: int = 0) -> None:
        """Take in what the oracle says is left; it can only lower what the ledger allows."""
        if not self._was_set:  # else nobody knows which window it speaks of
            self._books.note_server(self._tx, self.now, server, overtaken, attempt)

    def lock_out(self, until: float | None) -> float:
        """The oracle locked us out: nothing more until `until`, or until the window ends where it does not say.

        Returns the moment. An `until` that has long passed says nothing; none is believed beyond a year.
        """
        window = self._books.window(self._tx, self.now)
        if self._was_set or not self._books.is_open(self._tx, window):
            return window.end  # a guess from a clock nobody vouched for: end this run, but record nothing
        if until is None or until < self.now - self._books.skew:
            until = window.end
        moment = min(max(until, self.now + self._books.skew), self.now + MAX_PERIOD)
        self._tx.execute("UPDATE oracle SET locked_until=max(locked_until, ?) WHERE id=?", (moment, self._books.key))
        return moment

    def recover(self) -> tuple[int, int]:
        """Refund what was reserved, keep what was sent as spent. Returns both counts.

        Nobody knows when it crashed, so what was sent may have been in flight for the longest possible time.
        """
        refunded = self._tx.execute(
            "UPDATE attempt SET state='refunded', closed_at=reserved_at, outcome='agent stopped before sending' "
            "WHERE oracle=? AND state='reserved' AND closed_at IS NULL",
            (self._books.key,),
        ).rowcount
        lost = self._tx.execute(
            "UPDATE attempt SET closed_at=sent_at + ?, outcome='agent stopped before the answer' "
            "WHERE oracle=? AND state='sent' AND closed_at IS NULL",
            (self._timeout, self._books.key),
        ).rowcount
        return refunded, lost

    def _ended(self, attempt: int, took: float | None) -> float:
        """When the attempt ended; at the latest possible moment where nobody knows because the clock was set."""
        if took is None and not self._was_set:
            return self.now
        sent_at = self._tx.execute("SELECT sent_at FROM attempt WHERE id=?", (attempt,)).fetchone()[0]
        return float(sent_at or self.now) + (self._timeout if took is None else max(0.0, took))

    def _move(self, attempt: int, before: str, after: str, **values: object) -> None:
        columns = "".join(f", {name}=?" for name in values)
        cursor = self._tx.execute(
            f"UPDATE attempt SET state=?{columns} WHERE id=? AND state=? AND closed_at IS NULL",
            (after, *values.values(), attempt, before),
        )
        if cursor.rowcount != 1:
            raise RuntimeError(f"attempt {attempt} is not {before}: the ledger refuses to move it to {after}")
