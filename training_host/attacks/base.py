"""What the query strategies share: what an adversary knows before the next night, and what is asked in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from training_host.data.arrays import ScoredSet

Images = npt.NDArray[np.uint8]
Scores = npt.NDArray[np.float32]


class Student(Protocol):
    """A substitute of an earlier round."""

    def scores_of(self, images: Images) -> Scores:
        """Scores, float32 (n, classes), of uint8 pictures (n, height, width, 3) of the network's size."""
        ...

    def features_of(self, images: Images) -> npt.NDArray[np.float32]:
        """What stands before the last layer, float32 (n, features), or something that serves as well."""
        ...


@runtime_checkable
class OpenStudent(Student, Protocol):
    """A substitute that can also tell where its answers lead; one of ONNX alone cannot."""

    def gradients_of(self, images: Images, weights: Scores) -> npt.NDArray[np.float32]:
        """Gradient by the pictures, counted in 0..1, of the log-scores summed with `weights`.

        `images` as above, `weights` float32 (n, classes); float32 (n, height, width, 3).
        """
        ...


@dataclass(frozen=True)
class Query:
    """One picture to ask: the pool's picture `index` as it is, or `kind` made of it ("augmented", or "mixed" with
    picture `other`), or one of nothing in particular ("foreign"), by a generator seeded with `seed`, so that a query
    can be made again in full size."""

    index: int
    kind: str = "plain"
    other: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Situation:
    """Everything that an adversary knows when a round begins.

    `pool`: pictures that may be asked, uint8 (n, height, width, 3), of the network's size; `asked`: which of them were
    asked as they are, bool (n,). `labels`: their true classes where the adversary has them, int64 (n,). `answered`: all
    answers so far. `students`: substitutes trained on them, best first; none in the first round. `size`: how many
    queries may be spent now.
    """

    pool: Images
    asked: npt.NDArray[np.bool_]
    size: int
    rng: np.random.Generator
    students: Sequence[Student] = field(default=())
    answered: ScoredSet | None = None
    labels: npt.NDArray[np.int64] | None = None


class Strategy(Protocol):
    """One way to choose: a frozen dataclass whose fields are its hyper-parameters; its `name` is the command line's."""

    @property
    def name(self) -> str:
        """Under this name `train-host select --strategy` knows it."""
        ...

    def choose(self, situation: Situation) -> list[Query]:
        """At most `situation.size` different queries, the most valuable first; never one that was asked as it is.

        Deterministic for the same situation (generator included). Fewer where the pool has no more to give.
        """
        ...
