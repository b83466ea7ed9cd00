"""A fixed set of pictures with a drawn label each, and the exact test for it: shared by the schemes that use one."""

from __future__ import annotations

import sys
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pi_agent.contract.claim import WatermarkKey
from pi_agent.contract.claim.p_value import tail
from pi_agent.contract.errors import RefusedInput
from training_host.data.arrays import LabelledSet
from training_host.data.variants import foreign
from training_host.watermarks.base import Finding, ScoresOf


class DrawnTriggers(NamedTuple):
    """`images` uint8 (n, height, width, 3); `labels` int64 (n,) into the key's classes."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


def draw_triggers(key: WatermarkKey, purpose: str, count: int, size: tuple[int, ...]) -> DrawnTriggers:
    """Abstract pictures of `size` (height, width), each with a label drawn for itself, uniform among all classes.

    The labels come from a stream of their own, so that they know nothing of the pictures. The pictures come from
    numpy's generator, seeded by the key: the same for one version of numpy and OpenCV, which does for a comparison but
    would not do for a claim.
    """
    stream = key.stream(f"{purpose}/pictures")
    rng = np.random.default_rng([stream.below(2**32) for _ in range(8)])
    side = max(size)
    images = np.stack([foreign(side, rng)[: size[0], : size[1]] for _ in range(count)])
    labels = key.stream(f"{purpose}/labels")
    return DrawnTriggers(images, np.array([labels.below(len(key.classes)) for _ in range(count)], dtype=np.int64))


def find_drawn(
    key: WatermarkKey, purpose: str, count: int, scores_of: ScoresOf, pictures: LabelledSet
) -> Finding | None:
    """`find_matches` with the key's triggers of this purpose. Of `pictures` only size and classes count.

    None where the classes are not the key's.
    """
    if key.classes != pictures.classes:
        return None
    return find_matches(draw_triggers(key, purpose, count, pictures.images.shape[1:3]), scores_of, len(key.classes))


def find_matches(triggers: DrawnTriggers, scores_of: ScoresOf, classes: int) -> Finding:
    """On how many triggers does the suspect's best class equal the label?

    Exact: whatever the suspect answers, every label was drawn on its own, uniform among all `classes`, so the number of
    matches is binomial with chance 1/classes each. This is the rare test in which single triggers may be counted.
    """
    hits = int((scores_of(triggers.images).argmax(axis=1) == triggers.labels).sum())
    chances = [Fraction(1, classes)] * len(triggers.labels)
    p_value, floor = (_as_float(tail(chances, n)) for n in (hits, len(chances)))
    return Finding(p_value, floor, hits / len(chances), {"matches": p_value})


def must_fit(key: WatermarkKey, data: LabelledSet) -> None:
    """Raises `RefusedInput` (65) where the key was made for other classes than the data has."""
    if key.classes != data.classes:
        raise RefusedInput(path="the key", reason="made for other classes", hint=f"the data has {data.classes}")


def _as_float(chance: Fraction) -> float:
    """Never zero: with very many classes the floor is smaller than any float."""
    return max(float(chance), sys.float_info.min)
