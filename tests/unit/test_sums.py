"""The exact distribution of a sum over rules, and Holm's correction."""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_agent.contract.claim import draw_rules, new_key
from pi_agent.contract.claim.p_value import STEPS, holm, sum_tail

CLASSES = tuple(f"c{i:02}" for i in range(12))

tables = st.lists(
    st.lists(st.integers(-20, 20).map(lambda n: n / 4), min_size=1, max_size=5).map(np.array), min_size=1, max_size=5
)


def in_steps(values: list[np.ndarray]) -> list[list[int]]:
    """The whole steps that the docstring speaks of."""
    widest = max(float(np.ptp(v)) for v in values)
    return [[round(float(x - v.min()) / widest * max(10, STEPS // len(values))) for x in v] for v in values]


@settings(deadline=None)
@given(tables, st.data())
def test_the_tail_of_a_sum_agrees_with_counting_every_assignment(values: list[np.ndarray], data) -> None:
    drawn = [data.draw(st.integers(0, len(v) - 1)) for v in values]
    if max(float(np.ptp(v)) for v in values) == 0:
        assert sum_tail(values, drawn) == 1
        return
    steps = in_steps(values)
    observed = sum(own[i] for own, i in zip(steps, drawn, strict=True))
    sums = [sum(assignment) for assignment in product(*steps)]
    assert sum_tail(values, drawn) == Fraction(sum(s >= observed for s in sums), len(sums))


@settings(deadline=None)
@given(tables)
def test_over_all_assignments_every_p_value_is_as_rare_as_it_says(values: list[np.ndarray]) -> None:
    p = [sum_tail(values, drawn) for drawn in product(*(range(len(v)) for v in values))]
    for level in set(p):
        assert Fraction(sum(other <= level for other in p), len(p)) <= level


def test_the_tail_of_a_sum_agrees_with_decoy_keys() -> None:
    """Decoys are drawn as keys are: another target stream, the same settings. (1 + #{decoy >= true}) / (K + 1)."""
    rng, decoys = np.random.default_rng(3), 3000
    rules = draw_rules(new_key(CLASSES, 6, seed=bytes(32)))
    values = [rng.gamma(0.5, size=10) for _ in rules]
    drawn = [int(np.argsort(v)[place]) for v, place in zip(values, (9, 8, 5, 9, 3, 6), strict=True)]
    steps = in_steps(values)
    true = sum(own[i] for own, i in zip(steps, drawn, strict=True))
    at_least = 0
    for number in range(decoys):
        stream = new_key(CLASSES, 6, seed=number.to_bytes(32, "big")).stream("target")
        at_least += sum(stream.choose(own) for own in steps) >= true
    p = float(sum_tail(values, drawn))
    assert 0.005 < p < 0.5
    assert (1 + at_least) / (decoys + 1) == pytest.approx(p, abs=5 * (p * (1 - p) / decoys) ** 0.5)


def test_rules_drawn_from_decoy_keys_have_the_same_distribution_as_the_count() -> None:
    """The whole way: the rules of other keys, and a suspect that answers to settings without knowing a key."""
    leaning = np.random.default_rng(4).gamma(0.4, size=(12, 12, 12))
    p = []
    for number in range(800):
        rules = draw_rules(new_key(CLASSES, 5, seed=number.to_bytes(32, "little")))
        own = [
            leaning[CLASSES.index(r.first), CLASSES.index(r.second)][[CLASSES.index(c) for c in r.candidates(CLASSES)]]
            for r in rules
        ]
        p.append(float(sum_tail(own, [r.candidates(CLASSES).index(r.target) for r in rules])))
    for level in (0.01, 0.05, 0.2, 0.5, 0.8):
        share = np.mean(np.array(p) <= level)
        assert share == pytest.approx(level, abs=5 * (level * (1 - level) / len(p)) ** 0.5), level


def test_the_largest_sum_reaches_the_floor_and_the_smallest_is_certain() -> None:
    values = [np.array([0.0, 1.0, 2.0]), np.array([5.0, 3.0])]
    assert sum_tail(values, [2, 0]) == Fraction(1, 6)
    assert sum_tail(values, [0, 1]) == 1
    assert sum_tail([np.ones(3), np.ones(2)], [0, 0]) == 1
    assert sum_tail([], []) == 1


def test_many_rules_are_no_problem() -> None:
    rng = np.random.default_rng(5)
    values = [rng.random(10) for _ in range(40)]
    best = [int(v.argmax()) for v in values]
    p = sum_tail(values, best)
    assert Fraction(1, 10**40) <= p < Fraction(1, 10**38)
    assert 0.001 < float(sum_tail(values, [int(rng.integers(10)) for _ in values])) < 0.999


@settings(deadline=None)
@given(st.lists(st.fractions(0, 1), min_size=1, max_size=8))
def test_holm_agrees_with_its_definition(p_values: list[Fraction]) -> None:
    order = sorted(range(len(p_values)), key=lambda i: (p_values[i], i))
    expected = [Fraction(0)] * len(p_values)
    for rank, index in enumerate(order):
        steps = [(len(p_values) - r) * p_values[order[r]] for r in range(rank + 1)]
        expected[index] = min(Fraction(1), max(steps))
    assert holm(p_values) == expected


def test_holm_gives_the_figures_of_a_textbook() -> None:
    p = [Fraction(n, 1000) for n in (10, 40, 30, 5)]
    assert [float(x) for x in holm(p)] == [0.03, 0.06, 0.06, 0.02]
    for order in permutations(range(4)):
        assert holm([p[i] for i in order]) == [holm(p)[i] for i in order]
    assert holm([]) == []
