"""The label cache: every answer ever settled, kept apart per query."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pi_agent.contract.answers import Answer
from pi_agent.contract.transfer_set import TransferItem
from pi_agent.contract.windows import iso
from pi_agent.store.db import Database
from pi_agent.store.pictures import Pictures

log = logging.getLogger(__name__)


class Labels:
    """The answers of one oracle."""

    def __init__(self, database: Database, oracle: str) -> None:
        self._db, self._oracle = database, oracle

    def classes(self) -> tuple[str, ...] | None:
        """The class names of the oracle's first answer; None before it."""
        found = self._db.value("SELECT classes FROM oracle WHERE id=?", self._oracle)
        return tuple(json.loads(str(found))) if found else None

    def set_classes(self, classes: tuple[str, ...]) -> None:
        """Remember the class names; every later answer must have the same."""
        with self._db.transaction() as tx:
            tx.execute(
                "UPDATE oracle SET classes=? WHERE id=? AND classes IS NULL", (json.dumps(classes), self._oracle)
            )

    def get(self, sha256: str) -> Answer | None:
        """The averaged answer for one picture, or None."""
        rows = self._db.rows("SELECT kind, vector FROM answer WHERE oracle=? AND image=?", self._oracle, sha256)
        classes = self.classes()
        if not rows or classes is None:
            return None
        mean = np.stack([_vector(r["vector"]) for r in rows]).mean(axis=0, dtype=np.float64)
        return Answer(rows[0]["kind"], classes, mean.astype(np.float32))

    def count(self) -> int:
        """Number of answers."""
        return int(str(self._db.value("SELECT count(*) FROM answer WHERE oracle=?", self._oracle)))

    def count_images(self) -> int:
        """Number of pictures with at least one answer."""
        return int(str(self._db.value("SELECT count(DISTINCT image) FROM answer WHERE oracle=?", self._oracle)))

    def items(self, pictures: Pictures, since: float = 0.0) -> Iterator[TransferItem]:
        """Every answered picture with its answers settled at or after `since`, in the order they were added."""
        classes = self.classes() or ()
        images = self._db.rows(
            "SELECT sha256 FROM image WHERE EXISTS "
            "(SELECT 1 FROM answer WHERE answer.image=sha256 AND oracle=? AND answered_at>=?) ORDER BY seq",
            self._oracle,
            since,
        )
        for row in images:
            picture = pictures.get(row["sha256"])
            if picture is None:
                log.error("%s: its stored picture is missing or damaged; add it again", row["sha256"])
                continue
            answers = self._db.rows(
                "SELECT attempt, vector, answered_at FROM answer WHERE oracle=? AND image=? AND answered_at>=? "
                "ORDER BY attempt",
                self._oracle,
                row["sha256"],
                since,
            )
            yield TransferItem(
                picture.sha256,
                picture.jpeg,
                classes,
                np.stack([_vector(a["vector"]) for a in answers]),
                tuple(iso(a["answered_at"]) for a in answers),
                tuple(a["attempt"] for a in answers),
            )


def _vector(blob: bytes) -> npt.NDArray[np.float32]:
    return np.frombuffer(blob, dtype="<f4").astype(np.float32)
