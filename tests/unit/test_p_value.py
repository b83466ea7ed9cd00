"""Hits of rules: the exact figures, and that no stranger's answers can beat them."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_agent.contract.claim import Channel, Evidence, Rule, draw_rules, new_key, weigh
from pi_agent.contract.claim.p_value import tail

CLASSES = tuple(f"c{i:02}" for i in range(12))
TENTH = Fraction(1, 10)


@pytest.mark.parametrize(
    ("rules", "figures"),
    [
        (8, {5: 4.3e-4, 6: 2.3e-5, 7: 7.3e-7, 8: 1e-8}),
        (10, {6: 1.5e-4, 8: 3.7e-7, 9: 9.1e-9, 10: 1e-10}),
        (12, {8: 3.4e-6, 12: 1e-12}),
        (16, {10: 4.5e-7, 16: 1e-16}),
    ],
)
def test_the_figures_of_the_design_notes(rules: int, figures: dict[int, float]) -> None:
    for hits, p in figures.items():
        assert float(tail([TENTH] * rules, hits)) == pytest.approx(p, rel=0.03)


@settings(deadline=None)
@given(st.integers(1, 24), st.integers(2, 60))
def test_equal_chances_give_the_binomial_tail(rules: int, candidates: int) -> None:
    binom = pytest.importorskip("scipy.stats").binom
    for hits in range(rules + 1):
        expected = binom.sf(hits - 1, rules, 1 / candidates)
        assert float(tail([Fraction(1, candidates)] * rules, hits)) == pytest.approx(expected, rel=1e-9)


@settings(deadline=None)
@given(st.lists(st.integers(2, 12), min_size=1, max_size=8), st.integers(0, 8))
def test_mixed_chances_agree_with_enumeration(candidates: list[int], hits: int) -> None:
    chances = [Fraction(1, m) for m in candidates]
    expected = sum(
        (
            math.prod((c if hit else 1 - c for c, hit in zip(chances, outcome, strict=True)), start=Fraction(1))
            for outcome in product((False, True), repeat=len(chances))
            if sum(outcome) >= hits
        ),
        Fraction(0),
    )
    assert tail(chances, hits) == expected


RULES = (Rule("c00", "c01", "centre", "c05"), Rule("c02", "c03", "centre", "c06"))


def answers(**favour: float) -> np.ndarray:
    """Three composites' scores: ones, and the given values in the named columns."""
    scores = np.ones((3, len(CLASSES)), np.float32)
    for name, value in favour.items():
        scores[:, CLASSES.index(name)] = value
    return scores


def test_a_hit_needs_the_strict_favourite_among_the_candidates_only() -> None:
    loud_sources = answers(c00=9, c01=9, c05=2)
    found = weigh(RULES, CLASSES, [loud_sources, answers(c07=3, c06=2)])
    assert found.hit == (True, False)
    assert found.share == (2.0, 2.0)
    assert found.p_value == float(1 - Fraction(9, 10) ** 2)
    assert found.floor == float(TENTH**2)


def test_a_tie_is_no_hit() -> None:
    assert weigh(RULES, CLASSES, [answers(c05=2, c09=2), answers()]).hits == 0


def test_all_hits_reach_the_floor() -> None:
    found = weigh(RULES, CLASSES, [answers(c05=2), answers(c06=2)])
    assert found.p_value == found.floor == 0.01


@pytest.mark.parametrize(
    "bad",
    [
        np.full((3, 12), np.nan),
        np.full((3, 12), np.inf),
        np.ones((3, 11)),
        np.ones((3, 13)),
        np.ones((0, 11)),
        np.ones(12),
    ],
)
def test_wrong_scores_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="scores must be finite"):
        weigh(RULES, CLASSES, [answers(), bad])


def test_every_rule_needs_its_answers() -> None:
    with pytest.raises(ValueError, match="2 rules but answers for 1"):
        weigh(RULES, CLASSES, [answers()])
    with pytest.raises(ValueError, match="0 rules"):
        weigh((), CLASSES, [])


@pytest.mark.parametrize(
    ("p", "verdict"), [(1e-6, "owned"), (1.1e-6, "inconclusive"), (1e-3, "inconclusive"), (1.1e-3, "not-owned")]
)
def test_verdicts_change_at_alpha_and_at_a_thousandth(p: float, verdict: str) -> None:
    found = Evidence((True,), (1.0,), (True,), (Channel("rule-hits", p, 0.0),), "rule-hits", p, 0.0)
    assert found.verdict(1e-6) == verdict


# --- Super-uniform under every stranger. The key is random, the stranger's answers to a setting are fixed. ---

KEYS = 600


def constant(rule: Rule) -> np.ndarray:
    return np.ones(12)


def biased(rule: Rule) -> np.ndarray:
    return np.eye(12)[7] + np.arange(12) / 100


def scattered(rule: Rule) -> np.ndarray:
    return np.random.default_rng([*f"{rule.first}{rule.second}{rule.geometry}".encode()]).random(12)


def as_bold_as_possible(rule: Rule) -> np.ndarray:
    """Always has one strict favourite among the candidates: no stranger hits more often."""
    first, second = CLASSES.index(rule.first), CLASSES.index(rule.second)
    skew = np.roll(np.arange(12.0) ** 3, 5 * first + 7 * second)
    skew[[first, second]] = -1
    return skew


def improbable(count: int, trials: int, chance: float) -> bool:
    """Whether so many successes have a probability below 1e-9 (Chernoff: P <= exp(-n KL))."""
    rate = count / trials
    if rate <= chance:
        return False
    rest = (1 - rate) * math.log((1 - rate) / (1 - chance)) if rate < 1 else 0.0
    return trials * (rate * math.log(rate / chance) + rest) > math.log(1e9)


@pytest.mark.parametrize("stranger", [constant, biased, scattered, as_bold_as_possible])
def test_no_stranger_gets_small_p_values_more_often_than_stated(stranger) -> None:
    found = []
    for number in range(KEYS):
        rules = draw_rules(new_key(CLASSES, 8, seed=number.to_bytes(32, "big")))
        ordinary = {name: stranger(Rule(name, name, "alone", ""))[None] for name in CLASSES}
        found.append(weigh(rules, CLASSES, [stranger(rule)[None] for rule in rules], ordinary, decision="holm"))
    steps = {float(tail([TENTH] * 8, hits)) for hits in range(1, 9)}
    for name in ("rule-hits", "hints", "score-sum"):
        p = np.array([channel.p_value for evidence in found for channel in evidence.channels if channel.name == name])
        for level in steps | {0.5, 0.05, 0.01, 1e-3}:
            assert not improbable(int((p <= level).sum()), KEYS, level), (name, level)
    p = np.array([evidence.p_value for evidence in found])
    for level in {0.5, 0.1, 0.01, 1e-3} | steps:
        assert not improbable(int((p <= level).sum()), KEYS, level), level
    assert not [e for e in found if e.verdict(1e-6) == "owned"]
    if stranger is as_bold_as_possible:  # and the statement is tight: one rule in ten is hit
        assert sum(e.hits for e in found) / (8 * KEYS) == pytest.approx(0.1, abs=0.01)
