"""The queue: which pictures are to be asked, in which order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pi_agent.store.db import Database

_CHUNK = 256
_ANSWERS = (
    "(SELECT count(*) FROM answer WHERE answer.oracle=(SELECT id FROM oracle WHERE name=:oracle) "
    "AND answer.image=image.seq)"
)


@dataclass(frozen=True)
class QueuedImage:
    """A picture that wants an answer; `answers`: how many it has."""

    sha256: str
    source: str
    priority: int = 0
    answers: int = 0


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

    def waiting(self, oracle: str, repeats: int = 1) -> Iterator[QueuedImage]:
        """The pictures with fewer than `repeats` answers and no standing problem, best first, each once.

        Reads a piece at a time: others may add, and answers may land, while it is consumed.
        """
        at_most = 2**63 - 1
        while (priority := self._next_priority(at_most)) is not None:
            yield from self._of_priority(priority, oracle, repeats)
            at_most = priority - 1

    def _next_priority(self, at_most: int) -> int | None:
        sql = "SELECT max(priority) FROM image WHERE queued=1 AND priority <= ?"
        found = self._db.value(sql, at_most)
        return None if found is None else int(str(found))

    def _of_priority(self, priority: int, oracle: str, repeats: int) -> Iterator[QueuedImage]:
        """One priority after the other: the index then finds the place to go on at."""
        seq = 0
        while True:
            rows = self._db.rows(
                f"SELECT seq, sha256, source, {_ANSWERS} AS answers FROM image WHERE queued=1 AND priority=:priority "
                f"AND seq > :seq AND problem IS NULL AND answers < :repeats ORDER BY seq LIMIT {_CHUNK}",
                {"priority": priority, "seq": seq, "oracle": oracle, "repeats": repeats},
            )
            for row in rows:
                yield QueuedImage(row["sha256"], row["source"], priority, row["answers"])
            if len(rows) < _CHUNK:
                return
            seq = rows[-1]["seq"]

    def count_waiting(self, oracle: str, repeats: int = 1) -> int:
        """How many pictures still want an answer."""
        return self._count(f"queued=1 AND problem IS NULL AND {_ANSWERS} < :repeats", oracle, repeats)

    def count_answered(self, oracle: str, repeats: int = 1) -> int:
        """How many queued pictures have all the answers they want."""
        return self._count(f"queued=1 AND {_ANSWERS} >= :repeats", oracle, repeats)

    def count(self) -> int:
        """All pictures that were ever queued."""
        return int(str(self._db.value("SELECT count(*) FROM image WHERE queued=1")))

    def problems(self) -> int:
        """Pictures the oracle or the disk made unusable."""
        return int(str(self._db.value("SELECT count(*) FROM image WHERE problem IS NOT NULL")))

    def set_problem(self, sha256: str, problem: str) -> None:
        """Never ask this picture again; `problem` says why."""
        with self._db.transaction() as tx:
            tx.execute("UPDATE image SET problem=? WHERE sha256=?", (problem[:500], sha256))

    def _count(self, condition: str, oracle: str, repeats: int) -> int:
        sql = f"SELECT count(*) FROM image WHERE {condition}"
        return int(str(self._db.value(sql, {"oracle": oracle, "repeats": repeats})))
