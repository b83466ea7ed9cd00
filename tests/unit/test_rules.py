"""Rules drawn from a key: golden values, and what makes the p-value exact."""

from __future__ import annotations

from collections import Counter
from itertools import islice

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


def test_golden_rules_never_change() -> None:
    key = new_key(CLASSES, 6, seed=bytes(range(32)))
    assert [f"{r.first}+{r.second} {r.geometry} {r.target}" for r in draw_rules(key)] == [
        "cans+paper centre trash",
        "glass+shirts centre paper",
        "wood+boots top-bottom cans",
        "trash+metal centre glass",
        "metal+shirts centre trash",
        "wood+paper left-right metal",
    ]


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
    other = OtherTargets(key.seed, key.classes, key.rules)
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
    ("classes", "alpha", "misses", "rules"), [(12, 1e-6, 0, 6), (12, 1e-6, 1, 8), (12, 1e-6, 2, 10), (4, 1e-6, 0, 20)]
)
def test_the_number_of_rules_that_survives_losses(classes: int, alpha: float, misses: int, rules: int) -> None:
    assert rules_needed(classes, alpha, misses) == rules


@settings(deadline=None, max_examples=40)
@given(st.integers(4, 100), st.floats(1e-9, 0.1), st.integers(0, 4))
def test_rules_needed_is_enough_and_no_more(classes: int, alpha: float, misses: int) -> None:
    rules = rules_needed(classes, alpha, misses)
    assert float(tail([1 / (classes - 2)] * rules, rules - misses)) <= alpha * (1 + 1e-9)
    assert rules == misses + 1 or float(tail([1 / (classes - 2)] * (rules - 1), rules - 1 - misses)) > alpha * (
        1 - 1e-9
    )


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
