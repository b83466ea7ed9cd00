"""Thousands of keys against the answers of one model, by the real functions; and is p super-uniform?"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from benchmarks.nulls_data import CLASSES, NUMBER, Answers
from pi_agent.contract.claim import Alignment, Evidence, Rule, WatermarkKey, align, evidence, new_key, weigh
from pi_agent.contract.claim.p_value import holm, sum_tail, tail
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


class Ready:
    """The answers of one model, prepared for thousands of keys: what `weigh` computes anew for every key is kept.

    The p-values come from the same functions; `null_models.study` compares both ways.
    """

    def __init__(self, answers: Answers, alignment: Alignment) -> None:
        self._alignment, self._known = alignment, [i for i, known in enumerate(alignment.known) if known]
        self._composites = answers.composites
        self._leaning = [evidence._mean_log(alignment.apply(own)) for own in answers.ordinary]
        self._tail, self._kept = lru_cache(maxsize=None)(tail), {}

    def row(self, rules: tuple[Rule, ...]) -> list[float]:
        """As `row(judge(...))`."""
        kept = [(self._of(r), CLASSES.index(r.target)) for r in rules]
        tested = [(own, columns.index(at)) for (columns, *own), at in kept if at in columns and len(columns) > 1]
        chances = tuple(Fraction(1, len(own[1])) for own, _ in tested)
        by_hits = float(self._tail(chances, sum(favourite == at for (favourite, _, _), at in tested)))
        drawn = [at for _, at in tested]
        hints = float(sum_tail([own[1] for own, _ in tested], drawn))
        by_sum = float(sum_tail([own[2] for own, _ in tested], drawn))
        return [by_hits, hints, by_sum, float(min(holm([Fraction(by_sum), Fraction(hints)])))]

    def hits(self, rules: tuple[Rule, ...]) -> int:
        """Rules obeyed, as `judge(...).hits`."""
        kept = [(self._of(r), CLASSES.index(r.target)) for r in rules]
        return sum(at in own[0] and len(own[0]) > 1 and own[0].index(at) == own[1] for own, at in kept)

    def _of(self, rule: Rule) -> tuple[list[int], int, P, P]:
        """Of a setting: candidates, the place of the strict favourite or -1, hints, and sums."""
        number = NUMBER[rule.first, rule.second, rule.geometry]
        if number not in self._kept:
            a, b = CLASSES.index(rule.first), CLASSES.index(rule.second)
            columns = [c for c in self._known if c not in (a, b)]
            shown = self._alignment.apply(self._composites[number])
            mean = shown.mean(axis=0)[columns]
            strict = bool(columns) and (mean == mean.max()).sum() == 1
            hints = (self._leaning[a] + self._leaning[b])[columns]
            favourite = int(mean.argmax()) if strict else -1
            self._kept[number] = (columns, favourite, hints, evidence._mean_log(shown)[columns])
        return self._kept[number]


def d_plus(p: P) -> float:
    """sup over a of (share of p <= a) - a, one-sided Kolmogorov-Smirnov; for discrete p it errs on the safe side."""
    ordered = np.sort(p)
    return float(max(0.0, (np.arange(1, len(p) + 1) / len(p) - ordered).max()))


def ks_p(p: P) -> float:
    """How likely so large a D+ is if p is super-uniform, at most."""
    from scipy.stats import ksone

    return float(min(1.0, ksone.sf(d_plus(p), len(p))))


def at_most(cases: int, trials: int) -> float:
    """So many cases in independent trials: the rate is below this, with 95 % confidence (Clopper and Pearson 1934)."""
    from scipy.stats import beta

    return (
        none_in(trials) if not cases else 1.0 if cases == trials else float(beta.ppf(0.95, cases + 1, trials - cases))
    )


def none_in(trials: int) -> float:
    """No case in so many independent trials: the rate is below this, with 95 % confidence."""
    return float(1 - 0.05 ** (1 / trials))
