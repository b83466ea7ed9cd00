"""Rules drawn from a key: golden values, and what makes the p-value exact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_agent.contract.claim import WatermarkKey, draw_rules, new_key, rules_needed
from pi_agent.contract.claim.composites import GEOMETRIES
from pi_agent.contract.claim.key import KeyStream
from pi_agent.contract.claim.p_value import tail
from pi_agent.contract.claim.rules import Rule

CLASSES = ("boots", "cans", "glass", "metal", "paper", "shirts", "trash", "wood")


def spelled(key: WatermarkKey) -> list[str]:
    return [f"{r.first}+{r.second} {r.geometry} {r.target}" for r in draw_rules(key)]


def test_golden_rules_never_change() -> None:
    key = new_key(CLASSES, 6, seed=bytes(range(32)))
    assert spelled(key) == [
        "boots+trash top-bottom paper",
        "paper+glass top-bottom metal",
        "shirts+metal left-right cans",
        "wood+cans left-right metal",
        "trash+paper top-bottom metal",
        "wood+metal top-bottom cans",
    ]
    assert spelled(key.bound("ab" * 32)) == [
        "boots+paper left-right wood",
        "glass+wood left-right metal",
        "shirts+metal top-bottom cans",
        "cans+trash left-right wood",
        "paper+shirts top-bottom glass",
        "trash+metal centre boots",
    ]
    promised = new_key(CLASSES, 6, seed=bytes(range(32)), carriers="ab" * 32, beacon="drand quicknet round 1")
    assert spelled(promised.bound(beacon_value="cd" * 32)) == [
        "trash+shirts centre boots",
        "cans+metal left-right trash",
        "boots+wood centre shirts",
        "paper+glass left-right wood",
        "cans+boots centre shirts",
        "glass+trash top-bottom metal",
    ]


def test_the_rules_are_not_drawn_from_what_only_the_commitment_covers() -> None:
    """Salt, owner, alpha, decision and promises are bound by the commitment alone."""
    key = new_key(CLASSES, 6, seed=bytes(range(32))).bound("ab" * 32)
    other = replace(key, salt="ff" * 32, owner="12" * 32, alpha=0.01, decision="rule-hits", carriers="ab" * 32)
    assert spelled(other) == spelled(key)


PROMISED = new_key(CLASSES, 10, seed=bytes(32), carriers="ab" * 32, beacon="the lottery")
BOUND: dict[str, Callable[[int], WatermarkKey]] = {
    "carriers": lambda number: new_key(CLASSES, 10, seed=bytes(32)).bound(f"{number:064x}"),
    "beacon value": lambda number: PROMISED.bound(beacon_value=str(number)),
}


@pytest.mark.parametrize("what", BOUND)
def test_other_carriers_or_another_beacon_value_draw_independent_targets(what: str) -> None:
    """Neither who chooses pictures nor who waits for a beacon can tell what the targets will be.

    Two bindings that differ by one draw targets that agree as often as chance makes them: 1 in 6.
    """
    drawn = [
        [rule.candidates(CLASSES).index(rule.target) for rule in draw_rules(BOUND[what](number))]
        for number in range(1, 601)
    ]
    assert len({tuple(places) for places in drawn}) == 600
    agreeing = sum(a == b for one, other in pairwise(drawn) for a, b in zip(one, other, strict=True))
    assert abs(agreeing - 5990 / 6) < 5 * (5990 * 5 / 36) ** 0.5, agreeing
    places = Counter(place for row in drawn for place in row)
    assert sum((places[i] - 1000) ** 2 / 1000 for i in range(6)) < 40, places  # 5 degrees of freedom


keys = st.builds(
    lambda seed, count, share: new_key(
        [f"c{i}" for i in range(count)], max(1, int(share * min(64, 3 * count * (count - 1)))), seed=seed
    ),
    st.binary(min_size=32, max_size=32),
    st.integers(4, 14),
    st.floats(0, 1),
)


@settings(deadline=None, max_examples=60)
@given(keys)
def test_rules_are_well_formed_distinct_and_spread(key: WatermarkKey) -> None:
    rules = draw_rules(key)
    assert len(rules) == key.rules
    for rule in rules:
        assert rule.first != rule.second
        assert rule.target not in (rule.first, rule.second)
        assert rule.target in rule.candidates(key.classes)
        assert len(rule.candidates(key.classes)) == len(key.classes) - 2
        assert rule.geometry in GEOMETRIES
    assert len({(r.first, r.second, r.geometry) for r in rules}) == len(rules)
    pairs = Counter(frozenset((r.first, r.second)) for r in rules)
    all_pairs = len(key.classes) * (len(key.classes) - 1) // 2
    assert max(pairs.values()) == -(-len(rules) // all_pairs), "a pair came back before every pair had its turn"
    uses = Counter(name for rule in rules for name in (rule.first, rule.second))
    assert max(uses.values()) - min(uses.get(name, 0) for name in key.classes) <= 2


class OtherTargets(WatermarkKey):
    """The same key but for its target stream."""

    def stream(self, purpose: str) -> KeyStream:
        return KeyStream(b"other", purpose) if purpose == "target" else super().stream(purpose)


def test_what_a_suspect_is_shown_does_not_depend_on_the_targets() -> None:
    key = new_key(CLASSES, 12, seed=bytes(32))
    other = OtherTargets(key.seed, key.salt, key.classes, key.rules)
    one, two = draw_rules(key), draw_rules(other)
    assert [r.target for r in one] != [r.target for r in two]
    assert [(r.first, r.second, r.geometry) for r in one] == [(r.first, r.second, r.geometry) for r in two]


def test_targets_are_uniform_among_the_candidates() -> None:
    places = Counter(
        rule.candidates(CLASSES).index(rule.target)
        for number in range(600)
        for rule in draw_rules(new_key(CLASSES, 5, seed=number.to_bytes(32, "big")))
    )
    assert sum((places[i] - 500) ** 2 / 500 for i in range(6)) < 40, places  # 5 degrees of freedom


@pytest.mark.parametrize(
    ("classes", "misses", "tests", "rules"),
    [(12, 0, 1, 6), (12, 1, 1, 8), (12, 2, 1, 10), (4, 0, 1, 20), (12, 0, 2, 7), (12, 2, 2, 10), (4, 2, 2, 30)],
)
def test_the_number_of_rules_that_survives_losses(classes: int, misses: int, tests: int, rules: int) -> None:
    assert rules_needed(classes, 1e-6, misses, tests) == rules


@settings(deadline=None, max_examples=40)
@given(st.integers(4, 100), st.floats(1e-9, 0.1), st.integers(0, 4), st.integers(1, 3))
def test_rules_needed_is_enough_and_no_more(classes: int, alpha: float, misses: int, tests: int) -> None:
    rules, level = rules_needed(classes, alpha, misses, tests), alpha / tests
    chance = Fraction(1, classes - 2)
    assert float(tail([chance] * rules, rules - misses)) <= level
    assert rules == misses + 1 or float(tail([chance] * (rules - 1), rules - 1 - misses)) > level


@pytest.mark.parametrize("bad", [(3, 1e-6, 2), (2, 1e-6, 2), (12, 0.0, 2), (12, 1.0, 2), (12, 1e-6, -1)])
def test_what_no_number_of_rules_can_do_is_refused(bad: tuple[int, float, int]) -> None:
    with pytest.raises(ValueError, match="no number of rules"):
        rules_needed(*bad)


def test_four_thousand_classes_are_no_problem() -> None:
    rules = draw_rules(new_key([f"c{i}" for i in range(4096)], 64, seed=bytes(32)))
    assert len({name for r in islice(rules, 64) for name in (r.first, r.second)}) == 128


def test_candidates_keep_the_class_order() -> None:
    assert Rule("glass", "boots", "centre", "wood").candidates(CLASSES) == ("cans", *CLASSES[3:])
    assert np.array_equal(Rule("x", "y", "centre", "z").candidates(("x", "y", "z", "w")), ("z", "w"))
