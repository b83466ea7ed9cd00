"""Thousands of keys against the answers of one model, by the real functions; and is p super-uniform?"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from benchmarks.nulls_data import CLASSES, NUMBER, Answers
from pi_agent.contract.claim import Alignment, Evidence, Rule, WatermarkKey, align, evidence, new_key, weigh
from pi_agent.contract.claim.p_value import tail
from pi_agent.contract.claim.rules import rules_needed

RULES = rules_needed(len(CLASSES))
TESTS = ("rule-hits", "hints", "score-sum", "decision")
"""The columns of every array of p-values."""
P = Row = npt.NDArray[np.float64]


def remember() -> None:
    """`tail` sees the same few chances again and again, and is a function of nothing else: remembered, not replaced."""
    known = lru_cache(maxsize=None)(lambda chances, hits: tail(chances, hits))
    evidence.tail = lambda chances, hits: known(tuple(chances), hits)  # type: ignore[attr-defined]


def fresh_key(rng: np.random.Generator, carriers: str = "") -> WatermarkKey:
    """A key nobody has seen."""
    return new_key(CLASSES, RULES, seed=rng.bytes(32)).bound(carriers)


def found_by(answers: Answers) -> Alignment:
    """The alignment that a verification would find."""
    return align(answers.ordinary.mean(axis=1))


def judge(rules: tuple[Rule, ...], answers: Answers, alignment: Alignment) -> Evidence:
    """As `Case.conclude` does it, for answers that are there already."""
    composites = [alignment.apply(answers.composites[NUMBER[r.first, r.second, r.geometry]]) for r in rules]
    ordinary = {name: alignment.apply(answers.ordinary[i]) for i, name in enumerate(CLASSES)}
    return weigh(rules, CLASSES, composites, ordinary, alignment.known, "holm")


def row(found: Evidence) -> list[float]:
    """The p-values of one judgement, in the order of `TESTS`."""
    p = {channel.name: channel.p_value for channel in found.channels}
    return [*(p[name] for name in TESTS[:3]), found.p_value]


def d_plus(p: P) -> float:
    """sup over a of (share of p <= a) - a, one-sided Kolmogorov-Smirnov; for discrete p it errs on the safe side."""
    ordered = np.sort(p)
    return float(max(0.0, (np.arange(1, len(p) + 1) / len(p) - ordered).max()))


def ks_p(p: P) -> float:
    """How likely so large a D+ is if p is super-uniform, at most."""
    from scipy.stats import ksone

    return float(min(1.0, ksone.sf(d_plus(p), len(p))))


def none_in(trials: int) -> float:
    """No case in so many independent trials: the rate is below this, with 95 % confidence."""
    return float(1 - 0.05 ** (1 / trials))
