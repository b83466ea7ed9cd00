"""The queue: which pictures are to be asked, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pi_agent.store.db import Database


@dataclass(frozen=True)
class QueuedImage:
    """A picture that wants an answer."""

    sha256: str
    source: str


class Queue:
    """Pictures in the order of priority (higher first), then of arrival."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, images: Sequence[tuple[str, str]], priority: int, now: float, queued: bool = True) -> int:
        """Take in (hash, source) pairs in one transaction; returns how many were new to the queue.

        A picture that is already there keeps its place, unless the new priority is higher, and gets another chance if
        it had a problem. `queued=False` only makes the picture known (for `query`).
        """
        fresh = 0
        with self._db.transaction() as tx:
            for sha256, source in images:
                row = tx.execute(
                    "SELECT queued AND problem IS NULL AS waits FROM image WHERE sha256=?", (sha256,)
                ).fetchone()
                if row is None:
                    tx.execute(
                        "INSERT INTO image (sha256, source, priority, added_at, queued) VALUES (?, ?, ?, ?, ?)",
                        (sha256, source[:500], priority, now, int(queued)),
                    )
                elif queued:
                    tx.execute(
                        "UPDATE image SET queued=1, problem=NULL, priority=max(priority, ?) WHERE sha256=?",
                        (priority, sha256),
                    )
                fresh += row is None or (queued and not row["waits"])
        return fresh

    def waiting(self, oracle: str, repeats: int, limit: int, skip: Sequence[str] = ()) -> list[QueuedImage]:
        """The next pictures with fewer than `repeats` answers and no standing problem, best first."""
        marks = ",".join("?" * len(skip))
        rows = self._db.rows(
            f"SELECT sha256, source FROM image WHERE queued=1 AND problem IS NULL AND sha256 NOT IN ({marks}) AND "
            "(SELECT count(*) FROM answer WHERE answer.oracle=? AND answer.image=image.sha256) < ? "
            "ORDER BY priority DESC, seq LIMIT ?",
            *skip,
            oracle,
            repeats,
            limit,
        )
        return [QueuedImage(r["sha256"], r["source"]) for r in rows]

    def count_waiting(self, oracle: str, repeats: int = 1) -> int:
        """How many pictures still want an answer."""
        value = self._db.value(
            "SELECT count(*) FROM image WHERE queued=1 AND problem IS NULL AND "
            "(SELECT count(*) FROM answer WHERE answer.oracle=? AND answer.image=image.sha256) < ?",
            oracle,
            repeats,
        )
        return int(str(value))

    def count_answered(self, oracle: str, repeats: int = 1) -> int:
        """How many queued pictures have all the answers they want."""
        value = self._db.value(
            "SELECT count(*) FROM image WHERE queued=1 AND "
            "(SELECT count(*) FROM answer WHERE answer.oracle=? AND answer.image=image.sha256) >= ?",
            oracle,
            repeats,
        )
        return int(str(value))

    def count(self) -> int:
        """All pictures that were ever queued."""
        return int(str(self._db.value("SELECT count(*) FROM image WHERE queued=1")))

    def problems(self) -> int:
        """Pictures the oracle or the disk made unusable."""
        return int(str(self._db.value("SELECT count(*) FROM image WHERE problem IS NOT NULL")))

    def set_problem(self, sha256: str, problem: str) -> None:
        """Never ask this picture again; `problem` says why."""
        with self._db.transaction() as tx:
            tx.execute("UPDATE image SET problem=? WHERE sha256=?", (problem, sha256))
