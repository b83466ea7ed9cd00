"""Pictures for the calibration of the p-value: training pictures, carriers, and a composite for every setting.

What a suspect is shown does not depend on the targets of a key, so the answers to all settings are computed once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations

import numpy as np
import numpy.typing as npt

from pi_agent.contract.claim import compose
from pi_agent.contract.claim.composites import GEOMETRIES
from pi_agent.contract.manifest import InputSpec
from pi_agent.prepare import decode_picture, encode_query, shrink_to
from training_host.data.arrays import LabelledSet
from training_host.data.waste import CLASSES, render

PAIRS, ORDINARY = 8, 4
"""Composites of every setting, ordinary pictures of every class."""
SETTINGS = tuple((a, b, g) for a, b in permutations(CLASSES, 2) for g in GEOMETRIES)
NUMBER = {setting: i for i, setting in enumerate(SETTINGS)}
Pictures = npt.NDArray[np.uint8]


def small(picture: Pictures) -> Pictures:
    """300x300 to the networks' 64x64, with the agent's own filter."""
    return shrink_to(picture, InputSpec())


def carriers(seed: int, count: int = PAIRS) -> dict[str, list[Pictures]]:
    """`count` pictures of every class, uint8 (300, 300, 3), as they come out of the JPEGs in a carriers.tar."""
    return {
        name: [
            decode_picture(encode_query(render(name, np.random.default_rng([seed, i, number])), 80))
            for number in range(count)
        ]
        for i, name in enumerate(CLASSES)
    }


def training_pictures(seed: int, per_class: int) -> LabelledSet:
    """Rendered pictures, 64x64, class after class in turn."""
    jobs = [(i, number) for number in range(per_class) for i in range(len(CLASSES))]
    images = [small(render(CLASSES[i], np.random.default_rng([seed, i, number]))) for i, number in jobs]
    return LabelledSet(np.stack(images), np.array([i for i, _ in jobs]), CLASSES, ("",) * len(jobs))


@dataclass(frozen=True)
class Bench:
    """All pictures of one run. `training`: 64x64; `carriers`: 300x300, as a claim has them."""

    training: LabelledSet
    carriers: Mapping[str, Sequence[Pictures]]

    @cached_property
    def carriers_sha256(self) -> str:
        """Stands for the hash of a carriers.tar: names, order and pixels."""
        return listing_sha256(self.carriers)

    @cached_property
    def shown(self) -> Pictures:
        """uint8 (396 * PAIRS + 12 * ORDINARY, 64, 64, 3): composites made at 300 pixels, and ordinary pictures."""
        composites = [
            small(compose(self.carriers[a][i], self.carriers[b][i], g)) for a, b, g in SETTINGS for i in range(PAIRS)
        ]
        ordinary = [small(self.carriers[name][i]) for name in CLASSES for i in range(ORDINARY)]
        return np.stack([*composites, *ordinary])


@dataclass(frozen=True)
class Answers:
    """Scores for everything shown: `composites` (396, PAIRS, outputs), `ordinary` (12, ORDINARY, outputs)."""

    composites: npt.NDArray[np.float64]
    ordinary: npt.NDArray[np.float64]

    @classmethod
    def of(cls, scores: npt.NDArray[np.float64]) -> Answers:
        """From scores in the order of `Bench.shown`."""
        cut = len(SETTINGS) * PAIRS
        return cls(scores[:cut].reshape(len(SETTINGS), PAIRS, -1), scores[cut:].reshape(len(CLASSES), ORDINARY, -1))

    @property
    def accuracy(self) -> float:
        """Share of ordinary pictures that are called by their name (the outputs being in class order)."""
        return float((self.ordinary.argmax(axis=2) == np.arange(len(CLASSES))[:, None]).mean())


def listing_sha256(filed: Mapping[str, Sequence[Pictures]]) -> str:
    """One hash for class names, pictures and their order: another choice or order is another hash."""
    digest = hashlib.sha256()
    for name, pictures in filed.items():
        for picture in pictures:
            digest.update(name.encode() + b"/" + hashlib.sha256(picture.tobytes()).digest())
    return digest.hexdigest()


def make_bench(seed: int = 20, per_class: int = 40) -> Bench:
    """Render everything; 3 s for every ten pictures of each class."""
    return Bench(training_pictures(seed, per_class), carriers(seed + 1))
