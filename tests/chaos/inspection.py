"""What a dead agent left behind, read from a copy: looking must not repair what the next agent has to find."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ANSWERS = """
SELECT answer.attempt, image.sha256, answer.vector FROM answer
JOIN attempt ON attempt.id = answer.attempt JOIN image ON image.seq = answer.image WHERE attempt.state = 'settled'
"""
_LATEST = """
SELECT max(t) FROM (
    SELECT max(sent_at) AS t FROM attempt UNION SELECT max(closed_at) FROM attempt UNION
    SELECT max(start) FROM budget_window UNION SELECT latest FROM ledger_clock
)
"""


@dataclass(frozen=True)
class Snapshot:
    """A home at one moment. `answers`: image and vector of every settled attempt; `lost`: sent, without an answer;
    `under_way`: of these, not closed; `latest`: the latest moment that the ledger speaks of, seconds since 1970.
    """

    integrity: str
    answers: dict[int, tuple[str, bytes]]
    lost: int
    under_way: int
    reserved: int
    settled: int
    waiting: int
    problems: int
    latest: float
    wal_bytes: int

    @property
    def spent(self) -> int:
        """Queries that the ledger believes the oracle may have counted."""
        return self.settled + self.lost


def inspect(home: Path) -> Snapshot:
    """Read the ledger of a home whose agents are all dead. Raises `sqlite3.Error` for a damaged one."""
    wal = home / "agent.db-wal"
    wal_bytes = wal.stat().st_size if wal.exists() else 0
    with _copy(home) as db:
        integrity = db.execute("PRAGMA integrity_check").fetchone()[0]
        if not db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:  # killed before the first commit
            return Snapshot(integrity, {}, 0, 0, 0, 0, 0, 0, 0.0, wal_bytes)
        states = dict(db.execute("SELECT state, count(*) FROM attempt GROUP BY state"))
        one = "SELECT count(*) FROM "
        unanswered = "image WHERE NOT EXISTS (SELECT 1 FROM answer WHERE answer.image = image.seq)"
        return Snapshot(
            integrity,
            {attempt: (image, vector) for attempt, image, vector in db.execute(_ANSWERS)},
            states.get("sent", 0),
            db.execute(f"{one} attempt WHERE state = 'sent' AND closed_at IS NULL").fetchone()[0],
            states.get("reserved", 0),
            states.get("settled", 0),
            db.execute(f"{one} {unanswered} AND queued = 1").fetchone()[0],
            db.execute(f"{one} image WHERE problem IS NOT NULL").fetchone()[0],
            db.execute(_LATEST).fetchone()[0] or 0.0,
            wal_bytes,
        )


@contextlib.contextmanager
def _copy(home: Path) -> Iterator[sqlite3.Connection]:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("agent.db", "agent.db-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(home / name, Path(folder) / name)
        with contextlib.closing(sqlite3.connect(Path(folder) / "agent.db")) as db:
            yield db


def windows(store: Path) -> dict[int, tuple[int, int]]:
    """The server's own count: window -> (counted, refused)."""
    with contextlib.closing(sqlite3.connect(store, timeout=30)) as db:
        return {
            start: (counted, refused)
            for start, counted, refused in db.execute("SELECT window_start, counted, refused FROM quota")
        }
