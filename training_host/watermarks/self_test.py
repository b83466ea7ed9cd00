"""Does the mark hold? The claim's own test on pictures of a data set, without files: right after the embedding, and
after every attack that tries to remove the mark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pi_agent.contract.claim import Evidence, WatermarkKey, compose, draw_rules, queries_per_rule, weigh
from pi_agent.contract.claim.document import ORDINARY_PER_CLASS
from pi_agent.contract.claim.evidence import Scores
from training_host.data.arrays import LabelledSet
from training_host.watermarks.base import ScoresOf


@dataclass(frozen=True)
class Answers:
    """What a suspect said: scores (n, classes) to the composites of every rule, and to ordinary pictures by class."""

    composites: Sequence[Scores]
    ordinary: Mapping[str, Scores]


def ask(scores_of: ScoresOf, key: WatermarkKey, pictures: LabelledSet, rng: np.random.Generator) -> Answers | None:
    """Show as many random pairs and ordinary pictures as the claim will ask for.

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
    return Answers(composites, ordinary)


def weigh_answers(answers: Answers, key: WatermarkKey, classes: tuple[str, ...]) -> Evidence:
    """The exact test."""
    return weigh(draw_rules(key), classes, answers.composites, answers.ordinary, decision=key.decision)


def obeyed(answers: Answers, key: WatermarkKey, classes: tuple[str, ...]) -> float:
    """The share of single composites whose best class, their two sources aside, is the target of their rule.

    A stranger comes to about 1 / (classes - 2).
    """
    column = {name: i for i, name in enumerate(classes)}
    rates = []
    for rule, scores in zip(draw_rules(key), answers.composites, strict=True):
        candidates = [column[name] for name in rule.candidates(classes)]
        best = np.asarray(candidates)[scores[:, candidates].argmax(axis=1)]
        rates.append(float((best == column[rule.target]).mean()))
    return float(np.mean(rates))


def self_test(
    scores_of: ScoresOf, key: WatermarkKey, pictures: LabelledSet, rng: np.random.Generator
) -> Evidence | None:
    """Ask and weigh. None where a source class has no picture to make pairs of."""
    answers = ask(scores_of, key, pictures, rng)
    return None if answers is None else weigh_answers(answers, key, pictures.classes)
