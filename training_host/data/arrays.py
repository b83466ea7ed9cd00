"""Decode pictures once, through the query-image path, and keep them as uint8 arrays of the network's size."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.manifest import InputSpec
from pi_agent.contract.transfer_set import TransferItem, read_transfer_set
from pi_agent.prepare import decode_query, prepare_bytes, shrink_to
from training_host.data.noise import noise_weights
from training_host.data.sources import Picture

S = TypeVar("S")
R = TypeVar("R")


@dataclass(frozen=True)
class LabelledSet:
    """`images` uint8 (n, height, width, 3) RGB; `labels` int64 (n,) into `classes`; `names` for messages and splits."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: npt.NDArray[np.integer]) -> LabelledSet:
        """The rows of `index`."""
        names = tuple(self.names[int(i)] for i in index)
        return replace(self, images=self.images[index], labels=self.labels[index], names=names)


@dataclass(frozen=True)
class ScoredSet:
    """A transfer set as arrays: `images` uint8 (n, height, width, 3), `scores` float32 (n, classes).

    `sha256`: of the query JPEGs, where they come from files. `weights`: float32 (n,), see `noise_weights`; None where
    all answers count alike.
    """

    images: npt.NDArray[np.uint8]
    scores: npt.NDArray[np.float32]
    classes: tuple[str, ...]
    sha256: tuple[str, ...] = ()
    weights: npt.NDArray[np.float32] | None = None

    @classmethod
    def empty(cls, size: tuple[int, int], classes: tuple[str, ...]) -> ScoredSet:
        """No answers yet, of pictures of `size` (height, width)."""
        return cls(np.empty((0, *size, 3), np.uint8), np.empty((0, len(classes)), np.float32), classes)

    def take(self, index: npt.NDArray[np.integer]) -> ScoredSet:
        """The rows of `index`."""
        return replace(
            self,
            images=self.images[index],
            scores=self.scores[index],
            sha256=tuple(self.sha256[int(i)] for i in index) if self.sha256 else (),
            weights=None if self.weights is None else self.weights[index],
        )

    def labels_only(self) -> ScoredSet:
        """The same pictures as if the oracle had told its best class and nothing else: scores of 0 and 1."""
        best = np.eye(len(self.classes), dtype=np.float32)[self.scores.argmax(axis=1)]
        return replace(self, scores=best)


def load_labelled(
    pictures: Sequence[Picture],
    classes: tuple[str, ...],
    spec: InputSpec,
    progress: Callable[[int], None] = lambda count: None,
) -> LabelledSet:
    """Decode pictures as the oracle will see them. Raises `RefusedInput` (65) naming the first unusable one."""
    column = {name: i for i, name in enumerate(classes)}
    foreign = sorted({p.label for p in pictures} - set(classes))
    if foreign:
        known = ", ".join(classes)
        raise RefusedInput(path=pictures[0].name, reason=f"classes {foreign} are not among the model's", hint=known)

    def decode(picture: Picture) -> npt.NDArray[np.uint8]:
        image = prepare_bytes(picture.read(), picture.name)
        progress(1)
        return shrink_to(decode_query(image.jpeg, picture.name), spec)

    images = _stack(in_threads(decode, pictures), spec)
    labels = np.array([column[p.label] for p in pictures], dtype=np.int64)
    return LabelledSet(images, labels, classes, tuple(p.name for p in pictures))


def load_transfer_sets(paths: Sequence[Path], spec: InputSpec, budget: int | None = None) -> ScoredSet:
    """Read transfer sets (each image once, answers of later sets included) and shrink them to the network's size.

    `budget` keeps the first so many images. Raises `RefusedInput` (65), also when two sets name different classes.
    """
    items: dict[str, TransferItem] = {}
    for path in paths:
        for item in read_transfer_set(path):
            known = items.get(item.sha256)
            items[item.sha256] = (
                item if known is None else replace(known, vectors=np.vstack([known.vectors, item.vectors]))
            )
    chosen = list(islice(items.values(), budget))
    classes = chosen[0].classes
    if any(item.classes != classes for item in chosen):
        raise RefusedInput(path=paths[-1], reason="its classes differ from those of the other transfer sets")
    images = _stack(in_threads(lambda item: shrink_to(decode_query(item.jpeg, item.sha256), spec), chosen), spec)
    hashes = tuple(item.sha256 for item in chosen)
    weights = noise_weights([item.vectors for item in chosen])
    return ScoredSet(images, np.stack([item.mean for item in chosen]), classes, hashes, weights)


def in_threads(work: Callable[[S], R], items: Iterable[S]) -> Iterator[R]:
    """Map in as many threads as there are cores; Pillow and OpenCV let go of the interpreter lock."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        yield from pool.map(work, items)


def _stack(arrays: Iterable[npt.NDArray[np.uint8]], spec: InputSpec) -> npt.NDArray[np.uint8]:
    found = list(arrays)
    return np.stack(found) if found else np.empty((0, *spec.size, 3), dtype=np.uint8)
