"""What several strategies do alike: what is still open, how pictures are described, how students doubt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

import cv2
import numpy as np
import numpy.typing as npt

from training_host.attacks.base import Images, Query, Scores, Situation, Student
from training_host.data.dead_leaves import dead_leaves
from training_host.data.variants import derive, mix

Indices = npt.NDArray[np.int64]
Features = npt.NDArray[np.float32]
_PIXEL_SIDE = 8


def open_pictures(situation: Situation) -> Indices:
    """The pool's pictures that were not asked as they are, int64, ascending."""
    return np.flatnonzero(~situation.asked)


def plain(indices: Iterable[int]) -> list[Query]:
    """Pictures of the pool, to be asked as they are."""
    return [Query(int(index)) for index in indices]


def best(situation: Situation, values: npt.NDArray[np.floating], of: Indices) -> list[Query]:
    """Those `of` the pool with the largest `values`, float (len(of),), largest first, as many as may be asked."""
    return plain(of[np.argsort(-values, kind="stable")][: situation.size])


def at_random(situation: Situation) -> list[Query]:
    """Open pictures in random order, as many as may be asked."""
    return plain(situation.rng.permutation(open_pictures(situation))[: situation.size])


def fresh_seed(rng: np.random.Generator) -> int:
    """A seed for a picture that is made."""
    return int(rng.integers(2**63))


def augmented(parents: Iterable[int], rng: np.random.Generator) -> list[Query]:
    """One augmented version of each parent, every one with a seed of its own."""
    return [Query(int(parent), "augmented", seed=fresh_seed(rng)) for parent in parents]


def cycled(order: Indices, count: int) -> Indices:
    """The first `count` of an order that begins anew when it is through. Raises `ValueError` for an empty one."""
    if count and not len(order):
        raise ValueError("there is no picture to begin with")
    return np.resize(order, count)


def picture_of(query: Query, first: Images, second: Images | None) -> Images:
    """What is asked, uint8 like `first`: the picture of `query.index`; `second` is that of `query.other`. A foreign one
    has nothing of `first` but its size.

    In any size; the network's size shows nearly what full size will give, only blur is stronger there. Raises
    `ValueError` for an unknown kind and for a mix with nothing to mix in.
    """
    rng = np.random.default_rng(query.seed)
    if query.kind == "plain":
        return first
    if query.kind == "augmented":
        return derive(first, rng)
    if query.kind == "foreign":
        return np.asarray(dead_leaves(1, len(first), rng)[0])
    if query.kind != "mixed" or second is None:
        raise ValueError(f"a query of kind {query.kind!r} cannot be made")
    return mix(first, second, rng)


def sketch(queries: Sequence[Query], pool: Images) -> Images:
    """Queries in the network's size, uint8 (n, height, width, 3), for students to look at before anything is asked."""
    if not queries:
        return np.empty((0, *pool.shape[1:]), np.uint8)
    return np.stack([picture_of(q, pool[q.index], None if q.other is None else pool[q.other]) for q in queries])


def pixel_features(images: Images) -> Features:
    """Colours and coarse shapes, float32 (n, 192), 0..1: every picture as 8x8 pixels."""
    small = [cv2.resize(image, (_PIXEL_SIDE, _PIXEL_SIDE), interpolation=cv2.INTER_AREA) for image in images]
    flat = np.array(small, np.float32).reshape(len(images), _PIXEL_SIDE * _PIXEL_SIDE * 3)
    return flat / np.float32(255)


def features_of(students: Sequence[Student], images: Images) -> Features:
    """What the students see in pictures, side by side, float32 (n, features); without students the pixels' features.

    Each student's part has a mean square of one per picture, so that none outweighs the others.
    """
    if not students or not len(images):
        return pixel_features(images)
    parts = [student.features_of(images) for student in students]
    scaled = [part / max(float(np.sqrt(np.square(part).sum(axis=1).mean())), 1e-12) for part in parts]
    return np.concatenate(scaled, axis=1).astype(np.float32)


def known_pictures(situation: Situation) -> Images:
    """Everything that has an answer already, derived pictures too, uint8 (n, height, width, 3)."""
    return situation.pool[situation.asked] if situation.answered is None else situation.answered.images


def votes_of(students: Sequence[Student], images: Images) -> Scores:
    """Every student's scores, float32 (students, n, classes)."""
    return np.stack([student.scores_of(images) for student in students])


def entropy(scores: Scores) -> npt.NDArray[np.float64]:
    """Shannon entropy of every row in nats, float64 (n,)."""
    safe = np.clip(scores.astype(np.float64), 1e-12, 1)
    return np.asarray(-(safe * np.log(safe)).sum(axis=-1))


def answers_by_picture(situation: Situation) -> list[tuple[int, Scores]]:
    """The answers to plain pictures, in the order they are known in: (index in the pool, scores float32 (classes,)).

    An answer belongs to the pool's picture that has exactly its pixels.
    """
    if situation.answered is None:
        return []
    index = {picture.tobytes(): number for number, picture in enumerate(situation.pool)}
    pairs = zip(situation.answered.images, situation.answered.scores, strict=True)
    found = ((index.get(picture.tobytes()), scores) for picture, scores in pairs)
    return [(number, scores) for number, scores in found if number is not None]


def interleave(parts: Sequence[Sequence[Query]]) -> list[Query]:
    """Several lists in one, each in its order and evenly spread: every beginning holds its share of each."""
    ranked = [
        ((rank + 0.5) / len(part), number, query)
        for number, part in enumerate(parts)
        for rank, query in enumerate(part)
    ]
    return [query for _, _, query in sorted(ranked, key=lambda item: item[:2])]


def different(queries: Iterable[Query], size: int) -> list[Query]:
    """The first `size` that differ from one another."""
    return list(islice(dict.fromkeys(queries), size))
