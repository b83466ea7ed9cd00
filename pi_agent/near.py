"""Near-duplicates: pictures that look the same to a person and tell an adversary nothing new.

The hash is Zauner's pHash ("Implementation and Benchmarking of Perceptual Image Hash Functions", 2010, section 3.2.1):
the 8x8 lowest frequencies of a 32x32 grey picture, each above or below their median.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

from pi_agent.store.db import Database
from pi_agent.store.pictures import Pictures

_BATCH = 256


def perceptual_hash(jpeg: bytes) -> int:
    """64 bits as a signed number, of a stored query image. Raises `ValueError` for what is no picture."""
    grey = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise ValueError("not a picture")
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = np.asarray(cv2.dct(small))[:8, :8].ravel()
    bits = low > np.median(low[1:])  # the first is the mean brightness, far from all others
    return int(np.packbits(bits).view(">i8")[0])


class NearDuplicates:
    """The hashes of every picture that has an answer or is being asked about. Hashes are kept in the database.

    Pictures whose hashes differ in at most `bits` of 64 bits count as the same.
    """

    def __init__(self, database: Database, pictures: Pictures, oracle: str, bits: int) -> None:
        self._db, self._pictures, self._bits = database, pictures, bits
        rows = database.rows(
            "SELECT sha256 FROM image WHERE EXISTS (SELECT 1 FROM answer WHERE answer.image=seq "
            "AND oracle=(SELECT id FROM oracle WHERE name=?))",
            oracle,
        )
        known = self._hashes(row["sha256"] for row in rows)
        self._count = len(known)
        self._known: npt.NDArray[np.uint64] = np.zeros(max(1024, 2 * len(known)), np.uint64)
        self._known[: len(known)] = np.array(known, np.int64).view(np.uint64)

    def seen(self, sha256: str) -> bool:
        """True when a picture like this was asked about; otherwise it is remembered as asked."""
        found = self._hashes([sha256])
        if not found:
            return False  # its file is gone: for the caller to notice
        value = np.array(found, np.int64).view(np.uint64)[0]
        differing = np.bitwise_count(self._known[: self._count] ^ value)
        if self._count and int(differing.min()) <= self._bits:
            return True
        if self._count == len(self._known):
            self._known = np.concatenate([self._known, np.zeros_like(self._known)])
        self._known[self._count] = value
        self._count += 1
        return False

    def _hashes(self, images: Iterable[str]) -> list[int]:
        """The hashes of these pictures, computed and stored where they were not yet; without unreadable ones."""
        hashes, fresh = [], []
        for sha256 in images:
            value = self._db.value("SELECT phash FROM image WHERE sha256=?", sha256)
            if value is None:
                picture = self._pictures.get(sha256)
                if picture is None:
                    continue
                value = perceptual_hash(picture.jpeg)
                fresh.append((value, sha256))
            hashes.append(int(str(value)))
            if len(fresh) >= _BATCH:
                self._store(fresh)
        self._store(fresh)
        return hashes

    def _store(self, fresh: list[tuple[int, str]]) -> None:
        if fresh:
            with self._db.transaction() as tx:
                tx.executemany("UPDATE image SET phash=? WHERE sha256=?", fresh)
            fresh.clear()
