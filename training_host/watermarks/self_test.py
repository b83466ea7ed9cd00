"""Does the mark hold? The claim's own test on composites of held-out pictures, right after the embedding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from pi_agent.contract.claim import Evidence, Rule, compose, key_randomisation_test
from training_host.data.arrays import LabelledSet

_COMPOSITES = 32


def self_test(
    scores_of: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]],
    rules: tuple[Rule, ...],
    pictures: LabelledSet,
    rng: np.random.Generator,
) -> Evidence | None:
    """The exact test with 32 random pairs for every rule; None where a source class has no picture to make pairs of."""
    of_class = {name: np.flatnonzero(pictures.labels == i) for i, name in enumerate(pictures.classes)}
    if any(not len(of_class[name]) for rule in rules for name in (rule.first, rule.second)):
        return None
    scores = []
    for rule in rules:
        first, second = (pictures.images[rng.choice(of_class[n], _COMPOSITES)] for n in (rule.first, rule.second))
        scores.append(scores_of(compose(first, second, rule.geometry)))
    return key_randomisation_test(rules, pictures.classes, scores)
