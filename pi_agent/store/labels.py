"""The label cache: every answer ever settled, kept apart per query."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pi_agent.contract.answers import Answer
from pi_agent.contract.log import event
from pi_agent.contract.transfer_set import TransferItem
from pi_agent.contract.windows import iso
from pi_agent.errors import DamagedDatabase
from pi_agent.store.db import Database
from pi_agent.store.pictures import Pictures

log = logging.getLogger(__name__)


FOR_A_VERIFICATION = "verify:"
"""How the source of such a picture begins."""
_KEY = "(SELECT id FROM oracle WHERE name=?)"
_SAME_SCORES, _SAME_LABELS = 4, 30
"""So many repeated answers without a difference, and the oracle answers the same question always the same. Scores that
carry noise never agree to the last bit; labels do most of the time."""


class Labels:
    """The answers of one oracle."""

    def __init__(self, database: Database, oracle: str) -> None:
        self._db, self._oracle = database, oracle

    def classes(self) -> tuple[str, ...] | None:
        """The class names of the oracle's first answer; None before it."""
        found = self._db.value("SELECT classes FROM oracle WHERE name=?", self._oracle)
        try:
            return tuple(json.loads(str(found))) if found else None
        except ValueError as exc:
            raise DamagedDatabase(path=self._db.path, reason="the names of the classes are unreadable") from exc

    def get(self, sha256: str) -> Answer | None:
        """The averaged answer for one picture, or None."""
        rows = self._rows_of(sha256)
        classes = self.classes()
        if not rows or classes is None:
            return None
        mean = np.stack([_vector(r["vector"]) for r in rows]).mean(axis=0, dtype=np.float64)
        return Answer(rows[0]["kind"], classes, mean.astype(np.float32))

    def vectors(self, sha256: str) -> npt.NDArray[np.float32]:
        """All answers for one picture, float32 (answers, classes), oldest first; (0, 0) where there is none."""
        rows = self._rows_of(sha256)
        return np.stack([_vector(r["vector"]) for r in rows]) if rows else np.zeros((0, 0), np.float32)

    def count(self) -> int:
        """Number of answers."""
        return int(str(self._db.value(f"SELECT count(*) FROM answer WHERE oracle={_KEY}", self._oracle)))

    def count_images(self) -> int:
        """Number of pictures with at least one answer."""
        return int(str(self._db.value(f"SELECT count(DISTINCT image) FROM answer WHERE oracle={_KEY}", self._oracle)))

    def answers_alike(self) -> bool | None:
        """Whether the oracle gives the same picture always the same answer; None while nobody can know.

        Looks at the pictures that were asked more than once, the last ones first.
        """
        rows = self._db.rows(
            "SELECT count(*) AS n, count(DISTINCT vector) AS different, min(kind) AS kind FROM answer "
            f"WHERE oracle={_KEY} GROUP BY image HAVING n > 1 ORDER BY image DESC LIMIT {_SAME_LABELS}",
            self._oracle,
        )
        if any(r["different"] > 1 for r in rows):
            return False
        needed = _SAME_LABELS if any(r["kind"] == "label" for r in rows) else _SAME_SCORES
        return True if len(rows) > 1 and sum(r["n"] - 1 for r in rows) >= needed else None

    def items(self, pictures: Pictures, since: float = 0.0, verification: bool = False) -> Iterator[TransferItem]:
        """Every answered picture with its answers settled at or after `since`, in the order they were added.

        Without those that were asked for a verification, or nothing but those: they test a suspect, and whoever
        trained on them would learn the test.
        """
        classes = self.classes() or ()
        images = self._db.rows(
            f"SELECT seq, sha256 FROM image WHERE (source GLOB '{FOR_A_VERIFICATION}*')=? AND EXISTS "
            f"(SELECT 1 FROM answer WHERE answer.image=seq AND oracle={_KEY} AND answered_at>=?) ORDER BY seq",
            verification,
            self._oracle,
            since,
        )
        for row in images:
            picture = pictures.get(row["sha256"])
            if picture is None:
                log.error(event("picture-lost", image=row["sha256"], advice="add it again"))
                continue
            answers = self._db.rows(
                "SELECT attempt, kind, vector, answered_at FROM answer "
                f"WHERE oracle={_KEY} AND image=? AND answered_at>=? ORDER BY attempt",
                self._oracle,
                row["seq"],
                since,
            )
            yield TransferItem(
                picture.sha256,
                picture.jpeg,
                classes,
                np.stack([_vector(a["vector"]) for a in answers]),
                tuple(iso(a["answered_at"]) for a in answers),
                tuple(a["attempt"] for a in answers),
                "label" if all(a["kind"] == "label" for a in answers) else "scores",
            )

    def _rows_of(self, sha256: str) -> list[sqlite3.Row]:
        sql = "SELECT kind, vector FROM answer JOIN image ON seq=image WHERE sha256=? AND "
        return self._db.rows(f"{sql} oracle={_KEY} ORDER BY attempt", sha256, self._oracle)


def _vector(blob: bytes) -> npt.NDArray[np.float32]:
    return np.frombuffer(blob, dtype="<f4").astype(np.float32)
