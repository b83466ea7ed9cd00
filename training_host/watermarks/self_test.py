"""Does the mark hold? The claim's own test on held-out pictures, right after the embedding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from pi_agent.contract.claim import Evidence, WatermarkKey, compose, draw_rules, queries_per_rule, weigh
from pi_agent.contract.claim.document import ORDINARY_PER_CLASS
from training_host.data.arrays import LabelledSet

ScoresOf = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]


def self_test(
    scores_of: ScoresOf, key: WatermarkKey, pictures: LabelledSet, rng: np.random.Generator
) -> Evidence | None:
    """The exact test with as many random pairs and ordinary pictures as the claim will ask for.

    None where a source class has no picture to make pairs of.
    """
    of_class = {name: np.flatnonzero(pictures.labels == i) for i, name in enumerate(pictures.classes)}
    rules, pairs = draw_rules(key), queries_per_rule(len(key.classes), key.rules)
    if any(not len(of_class[name]) for rule in rules for name in (rule.first, rule.second)):
        return None
    composites = []
    for rule in rules:
        first, second = (pictures.images[rng.choice(of_class[n], pairs)] for n in (rule.first, rule.second))
        composites.append(scores_of(compose(first, second, rule.geometry)))
    ordinary = {
        name: scores_of(pictures.images[rng.permutation(own)[:ORDINARY_PER_CLASS]])
        for name, own in of_class.items()
        if len(own)
    }
    return weigh(rules, pictures.classes, composites, ordinary, decision=key.decision)
