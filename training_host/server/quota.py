"""The quota: the one place that decides whether a client may have another answer.

One row per client and window counts what was admitted and what was refused. The count is in the file before the
prediction starts, so a crash can only cost a client an answer, never give one away. RecycleMe's rule: the first request
above the quota locks its client out until the window ends. Whoever has a refusal in a window is locked out of it; there
is no second flag that could disagree.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pi_agent.contract.errors import CannotCreate, ConfigError
from pi_agent.contract.windows import Period, Window

_APPLICATION_ID = 0x4D475154  # "MGQT"
_BUSY_SECONDS, _RETRY_SECONDS = 10.0, 0.02
_OTHER_FILE = "give --quota-store a file of its own"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS quota (
    client TEXT NOT NULL,
    window_start INTEGER NOT NULL,
    counted INTEGER NOT NULL DEFAULT 0 CHECK (counted >= 0),
    refused INTEGER NOT NULL DEFAULT 0 CHECK (refused >= 0),
    PRIMARY KEY (client, window_start)
) STRICT, WITHOUT ROWID
"""
_ADD = """
INSERT INTO quota (client, window_start, counted, refused) VALUES (?, ?, ?, ?)
ON CONFLICT (client, window_start)
DO UPDATE SET counted = counted + excluded.counted, refused = refused + excluded.refused
"""


@dataclass(frozen=True)
class Standing:
    """Where a client stands in a window. Counts are requests, moments are seconds since 1970 UTC."""

    limit: int
    remaining: int
    window: Window
    locked_until: float | None

    @property
    def reset_at(self) -> float:
        """The moment at which the next window opens."""
        return self.window.end


@dataclass(frozen=True)
class Decision(Standing):
    """The standing after a request asked to be admitted."""

    admitted: bool


class Usage(NamedTuple):
    """One row for an audit: what a client was given and denied in the window that began at `window_start`."""

    client: str
    window_start: int
    counted: int
    refused: int


class Quota:
    """`limit` requests per client and window of `period`, kept in the SQLite file `store`, or in memory.

    Threads may share one object and processes one file.
    """

    def __init__(self, limit: int, period: Period, store: Path | None = None) -> None:
        """Open or create the store. Raises `CannotCreate` (73) or, for another program's file, `ConfigError` (78)."""
        self.limit, self.period = limit, period
        self._lock = threading.Lock()
        self._db = _open(store)

    def close(self) -> None:
        """Close the store. Counts in memory are gone then."""
        with self._lock:
            self._db.close()

    def admit(self, client: str, now: float) -> Decision:
        """Count one request of `client`, or refuse it and lock the client out. Durable when this returns."""
        with self._transaction() as tx:
            window = self._window(tx, now)
            counted, refused = self._count(tx, client, window)
            admitted = not refused and counted < self.limit
            tx.execute(_ADD, (client, int(window.start), int(admitted), int(not admitted)))
            after = self._standing(window, counted + admitted, refused + (not admitted))
        return Decision(**vars(after), admitted=admitted)

    def refuse(self, client: str, now: float) -> Standing:
        """Note one more request of a client who is locked out already; leaves no trace for one who is not."""
        with self._transaction() as tx:
            window = self._window(tx, now)
            tx.execute(
                "UPDATE quota SET refused = refused + 1 WHERE client = ? AND window_start = ? AND refused > 0",
                (client, int(window.start)),
            )
            return self._standing(window, *self._count(tx, client, window))

    def state(self, client: str, now: float) -> Standing:
        """Where `client` stands, at no cost."""
        with self._transaction("BEGIN") as tx:
            window = self._window(tx, now)
            return self._standing(window, *self._count(tx, client, window))

    def history(self) -> list[Usage]:
        """Every window of every client, oldest first."""
        with self._transaction("BEGIN") as tx:
            rows = tx.execute("SELECT client, window_start, counted, refused FROM quota ORDER BY window_start, client")
            return [Usage(*row) for row in rows]

    @contextlib.contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[sqlite3.Connection]:
        """A transaction for one thread at a time; IMMEDIATE takes the write lock before reading what it decides on."""
        with self._lock:
            self._db.execute(begin)
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise

    def _window(self, tx: sqlite3.Connection, now: float) -> Window:
        """The window at `now`, but never one before the newest that was used: a clock set back returns no quota."""
        newest = tx.execute("SELECT max(window_start) FROM quota").fetchone()[0]
        return self.period.window_at(now if newest is None else max(now, float(newest)))

    def _count(self, tx: sqlite3.Connection, client: str, window: Window) -> tuple[int, int]:
        # By range, not by equality: rows of shorter windows still count when the operator has made the period longer.
        row = tx.execute(
            "SELECT coalesce(sum(counted), 0), coalesce(sum(refused), 0) FROM quota "
            "WHERE client = ? AND window_start >= ? AND window_start < ?",
            (client, int(window.start), int(window.end)),
        ).fetchone()
        return int(row[0]), int(row[1])

    def _standing(self, window: Window, counted: int, refused: int) -> Standing:
        if refused:
            return Standing(self.limit, 0, window, window.end)
        return Standing(self.limit, max(0, self.limit - counted), window, None)


def _write_ahead(db: sqlite3.Connection) -> None:
    """One sync for a count instead of several; FULL keeps it durable.

    SQLite does not wait for the lock that this takes, whatever the timeout; another process may be doing the same.
    """
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as exc:
            if not exc.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)


def _open(store: Path | None) -> sqlite3.Connection:
    try:
        # One connection for all threads, guarded by the lock; autocommit, so that every transaction is ours.
        db = sqlite3.connect(store or ":memory:", timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA synchronous = FULL")
        db.execute("BEGIN IMMEDIATE")  # before looking: another process may be creating the same store
        found = db.execute("PRAGMA application_id").fetchone()[0]
        tables = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if found != _APPLICATION_ID and (found or tables):
            db.close()
            raise ConfigError(path=store, reason="not a quota store", hint=_OTHER_FILE)
        db.execute(_SCHEMA)
        db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        db.execute("COMMIT")
        _write_ahead(db)
        return db
    except sqlite3.DatabaseError as exc:
        if getattr(exc, "sqlite_errorname", "").startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
            raise ConfigError(path=store, reason=f"not a quota store ({exc})", hint=_OTHER_FILE) from exc
        raise CannotCreate(path=store, reason=str(exc)) from exc
