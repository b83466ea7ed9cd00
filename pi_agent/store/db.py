"""Open the agent's SQLite file and run transactions on it.

WAL with synchronous=FULL: a ledger must not forget a spend when the power goes. Few, short transactions, no pictures in
the database, one checkpoint at the end of a run: SD cards wear.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from pi_agent.contract.errors import CannotCreate, StorageError
from pi_agent.errors import DamagedDatabase
from pi_agent.store.migrations import check_owner, migrate

_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "busy_timeout=5000",
    "temp_store=MEMORY",
    "cache_size=-4096",
    "journal_size_limit=8388608",
)


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Translate SQLite's errors: disk full and I/O errors to exit 74, a damaged file to a message that says so."""
    try:
        yield
    except sqlite3.Error as exc:
        code = getattr(exc, "sqlite_errorname", "") or ""
        if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise DamagedDatabase(path=path, reason=str(exc)) from exc
        if code.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")):
            raise CannotCreate(path=path, reason=str(exc)) from exc
        if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")):
            raise StorageError(path=path, reason=str(exc), hint="another pi-agent is writing; try again") from exc
        if code.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
            raise StorageError(path=path, reason=str(exc)) from exc
        raise


class Database:
    """One connection with the agent's pragmas and schema. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        """Open or create the file. Raises `DamagedDatabase`, `StorageError` (74), `CannotCreate` (73)."""
        self.path = path
        with storage_errors(path):
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=5.0)
            self._connection.row_factory = sqlite3.Row
            check_owner(self._connection, path)
            for pragma in _PRAGMAS:
                self._connection.execute(f"PRAGMA {pragma}")
            migrate(self._connection)
            self._connection.execute("PRAGMA foreign_keys=ON")  # only now: a migration may rebuild tables

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Shrink the write-ahead log and close; a full disk here loses nothing, so it is not an error."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction that takes the lock at once; commits durably or rolls back whole."""
        with storage_errors(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Several reads of one moment; waits for nobody and writes nothing."""
        with storage_errors(self.path):
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")

    def rows(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """All rows of a reading statement; a single dict gives its named values."""
        with storage_errors(self.path):
            named = values[0] if len(values) == 1 and isinstance(values[0], dict) else values
            return self._connection.execute(sql, named).fetchall()

    def value(self, sql: str, *values: object) -> object:
        """The first column of the first row, or None."""
        rows = self.rows(sql, *values)
        return rows[0][0] if rows else None
