"""How everything that an attack gives is judged: the claim's own test, on pictures that no training has seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pi_agent.contract.claim import WatermarkKey, compose, draw_rules, queries_per_rule, weigh
from pi_agent.contract.claim.document import ORDINARY_PER_CLASS
from pi_agent.contract.errors import RefusedInput
from training_host.data.arrays import LabelledSet
from training_host.watermarks.base import Finding, ScoresOf


@dataclass(frozen=True)
class Judgement:
    """The scheme's finding, and in how many of the key's `rules` the target is the favourite."""

    finding: Finding
    hits: int
    rules: int


@dataclass(frozen=True)
class Judge:
    """Tests suspects by one key, all with the same composites: what differs between two rows is the suspect.

    `pictures`: held-out ones, one of every source class at least. Raises `RefusedInput` (65) where one has none.
    """

    key: WatermarkKey
    pictures: LabelledSet
    seed: int = 0

    def __post_init__(self) -> None:
        present = {self.pictures.classes[i] for i in np.unique(self.pictures.labels)}
        missing = sorted({c for rule in draw_rules(self.key) for c in (rule.first, rule.second)} - present)
        if missing:
            reason = f"no held-out picture of class {missing[0]!r}, so that its rules cannot be tested"
            raise RefusedInput(path="the data", reason=reason, hint="add pictures of it to the test part")

    def __call__(self, scores_of: ScoresOf) -> Judgement:
        """Raises `ValueError` for scores that are not finite."""
        rng, classes = np.random.default_rng(self.seed), self.pictures.classes
        of_class = {name: np.flatnonzero(self.pictures.labels == i) for i, name in enumerate(classes)}
        rules, pairs = draw_rules(self.key), queries_per_rule(len(classes), self.key.rules)
        composites = []
        for rule in rules:
            first, second = (self.pictures.images[rng.choice(of_class[n], pairs)] for n in (rule.first, rule.second))
            composites.append(scores_of(compose(first, second, rule.geometry)))
        ordinary = {
            name: scores_of(self.pictures.images[rng.permutation(own)[:ORDINARY_PER_CLASS]])
            for name, own in of_class.items()
            if len(own)
        }
        evidence = weigh(rules, classes, composites, ordinary, decision=self.key.decision)
        called = [a.argmax(axis=1) == classes.index(r.target) for a, r in zip(composites, rules, strict=True)]
        channels: Mapping[str, float] = {c.name: c.p_value for c in evidence.channels}
        finding = Finding(evidence.p_value, evidence.floor, float(np.mean(called)), channels)
        return Judgement(finding, evidence.hits, len(rules))
