"""Open the agent's SQLite file and run transactions on it.

WAL with synchronous=FULL: a ledger must not forget a spend when the power goes. Few, short transactions, no pictures in
the database, one checkpoint at the end of a run: SD cards wear.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pi_agent.contract.errors import CannotCreate, MagpieError, StorageError, from_write_error
from pi_agent.errors import Busy, DamagedDatabase
from pi_agent.store.migrations import check_owner, check_schema, migrate

_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "busy_timeout=5000",
    "temp_store=MEMORY",
    "cache_size=-4096",
    "journal_size_limit=8388608",
)

_BROKEN = (
    "free some disk space; if there is enough, the disk or SD card fails: copy the folder to another one. "
    "Nothing that was settled is lost; run the same command again"
)


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Translate SQLite's errors: disk full and I/O errors to exit 74, a damaged file to a message that says so."""
    try:
        yield
    except UnicodeDecodeError as exc:  # Python could not even read SQLite's complaint about the schema
        raise DamagedDatabase(path=path, reason="unreadable text") from exc
    except sqlite3.Error as exc:
        code = getattr(exc, "sqlite_errorname", "") or ""
        if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or str(exc).startswith("Could not decode"):
            raise DamagedDatabase(path=path, reason=_plain(exc)) from exc
        if code.startswith("SQLITE_CANTOPEN"):
            raise _cannot_open(path, str(exc)) from exc
        if code.startswith(("SQLITE_READONLY", "SQLITE_PERM")):
            raise CannotCreate(path=path, reason=str(exc)) from exc
        if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")):
            raise Busy(
                path=path.parent, pid="unknown"
            ) from exc  # stopped, or very slow, in the middle of a transaction
        if code.startswith("SQLITE_FULL"):
            raise StorageError(path=path, reason=str(exc)) from exc
        if code.startswith("SQLITE_IOERR"):
            raise StorageError(path=path, reason=f"{exc} ({code})", hint=_BROKEN) from exc
        raise


def _plain(exc: Exception) -> str:
    """The message on one line; it may quote what stands in the damaged file."""
    return "".join(c if c.isprintable() else "?" for c in str(exc)[:200])


def _cannot_open(path: Path, reason: str) -> MagpieError:
    """SQLite does not say why it cannot open or create a file; the system does when it is asked again."""
    try:
        if path.exists():
            with path.open("r+b"):
                pass
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as exc:
        return from_write_error(exc, path)
    return StorageError(path=path, reason=reason)


@contextlib.contextmanager
def _suspicious(path: Path) -> Iterator[None]:
    """As `storage_errors`; while a file is opened or checked, any other complaint of SQLite means damage too."""
    try:
        with storage_errors(path):
            yield
    except sqlite3.Error as exc:
        raise DamagedDatabase(path=path, reason=_plain(exc)) from exc


class Database:
    """One connection with the agent's pragmas and schema. Use as a context manager."""

    def __init__(self, path: Path, lost: Exception | None = None) -> None:
        """Open or create the file. `lost` is raised where there is nothing in it although there must be something.

        Raises `DamagedDatabase`, `StorageError` (74), `CannotCreate` (73).
        """
        self.path = path
        if lost is not None and not path.exists():
            raise lost
        with _suspicious(path):
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=5.0)
            try:
                self._prepare(lost)
            except BaseException:
                self._connection.close()
                raise

    def _prepare(self, lost: Exception | None) -> None:
        self._connection.row_factory = sqlite3.Row
        check_owner(self._connection, self.path)
        if lost is not None and self._connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            raise lost
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

    def check(self, *tables: str) -> None:
        """Compare the schema with ours, and `tables` (all where none is named) with their indexes.

        Raises `DamagedDatabase` (74). A second for half a million attempts.
        """
        with _suspicious(self.path):
            check_schema(self._connection, self.path)
            for name in tables or ("",):
                pragma = f"integrity_check({name})" if name else "integrity_check(3)"
                found = [_plain(Exception(row[0])) for row in self._connection.execute(f"PRAGMA {pragma}")]
                if found != ["ok"]:
                    raise DamagedDatabase(path=self.path, reason="; ".join(found[:3]))

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """As `storage_errors`. A column or table that is not there is damage, or else a bug of ours."""
        try:
            with storage_errors(self.path):
                yield
        except sqlite3.OperationalError:
            with _suspicious(self.path):
                check_schema(self._connection, self.path)
            raise

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction that takes the lock at once; commits durably or rolls back whole."""
        with self._errors():
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
        with self._errors():
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")

    def rows(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """All rows of a reading statement; a single dict gives its named values."""
        with self._errors():
            named = values[0] if len(values) == 1 and isinstance(values[0], dict) else values
            return self._connection.execute(sql, named).fetchall()

    def value(self, sql: str, *values: object) -> object:
        """The first column of the first row, or None."""
        rows = self.rows(sql, *values)
        return rows[0][0] if rows else None
