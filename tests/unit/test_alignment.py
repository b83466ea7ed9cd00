"""Which output is which class: the best assignment, and that it never looks at the key."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pi_agent.contract.claim import align, alignment
from pi_agent.contract.claim.alignment import GOOD_ENOUGH, optimal_assignment

gains = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(0, 64).map(lambda n: n / 64))
)


def total(gain: np.ndarray, columns: tuple[int | None, ...]) -> float:
    return sum(gain[i, column] for i, column in enumerate(columns) if column is not None)


@settings(deadline=None, max_examples=150)
@given(gains)
def test_no_assignment_gains_more(gain: np.ndarray) -> None:
    found = optimal_assignment(gain)
    used = [column for column in found if column is not None]
    assert len(found) == len(gain)
    assert len(used) == len(set(used)) == min(gain.shape)
    assert all(0 <= column < gain.shape[1] for column in used)
    optimize = pytest.importorskip("scipy.optimize")
    rows, columns = optimize.linear_sum_assignment(gain, maximize=True)
    assert total(gain, found) == pytest.approx(gain[rows, columns].sum(), abs=1e-9)


@pytest.mark.parametrize("shape", [(12, 12), (40, 40), (12, 30), (30, 12)])
def test_large_tables_with_any_numbers(shape: tuple[int, int]) -> None:
    gain = np.random.default_rng(shape).normal(size=shape)
    optimize = pytest.importorskip("scipy.optimize")
    rows, columns = optimize.linear_sum_assignment(gain, maximize=True)
    assert total(gain, optimal_assignment(gain)) == pytest.approx(gain[rows, columns].sum(), abs=1e-9)


@settings(deadline=None)
@given(st.permutations(range(8)), st.integers(0, 99))
def test_a_permutation_is_found_and_undone(order: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.dirichlet(np.ones(8), 20)
    mean = np.eye(8) * 0.7 + 0.3 / 8
    found = align(mean[:, order])
    assert [order[column] for column in found.columns] == list(range(8))
    assert found.expected == (order == sorted(order))
    assert found.gain == pytest.approx(0.7375)
    assert np.array_equal(found.apply(scores[:, order]), scores)


def test_classes_that_the_suspect_does_not_have_are_unknown_and_get_no_score() -> None:
    mean = np.eye(6)[:, [4, 0, 2, 5]]
    found = align(mean)
    assert found.columns == (1, None, 2, None, 0, 3)
    assert found.known == (True, False, True, False, True, True)
    scores = np.arange(8.0).reshape(2, 4)
    assert found.apply(scores).tolist() == [[1, 0, 2, 0, 0, 3], [5, 0, 6, 0, 4, 7]]


def test_classes_of_which_no_picture_was_shown_are_unknown_unless_the_usual_order_holds() -> None:
    mean = np.eye(6)[[1, 3, 5]]
    assert align(mean, shown=[1, 3, 5], classes=6).columns == tuple(range(6))
    turned = align(mean[:, ::-1], shown=[1, 3, 5], classes=6)
    assert turned.columns == (None, 4, None, 2, None, 0)
    assert turned.gain == 1


def test_outputs_beyond_the_claims_classes_are_left_out() -> None:
    mean = np.zeros((4, 9))
    mean[range(4), [8, 3, 0, 5]] = 0.9
    assert align(mean).columns == (8, 3, 0, 5)


def test_names_that_the_scores_bear_out_are_believed_and_others_are_not() -> None:
    mean = np.eye(5) * 0.6 + 0.08
    assert align(mean[:, ::-1], expected=[4, 3, 2, 1, 0]).expected
    misled = align(mean, expected=[1, 0, 2, 3, 4])
    assert not misled.expected
    assert misled.columns == (0, 1, 2, 3, 4)


def test_the_usual_order_stays_where_the_best_is_hardly_better() -> None:
    mean = np.array([[0.30, 0.36, 0.1, 0.1], [0.36, 0.30, 0.1, 0.1], [0.1, 0.1, 0.5, 0.1], [0.1, 0.1, 0.1, 0.5]])
    found = align(mean)
    assert found.columns == (0, 1, 2, 3)
    assert found.expected
    assert GOOD_ENOUGH < (0.30 * 2 + 1.0) / (0.36 * 2 + 1.0)


def test_a_constant_suspect_keeps_the_usual_order() -> None:
    assert align(np.full((6, 6), 1 / 6)).columns == tuple(range(6))
    assert align(np.zeros((6, 6))).columns == tuple(range(6))
    assert sum(align(np.full((6, 4), 0.25)).known) == 4


def test_alignment_sees_no_key_rule_or_composite() -> None:
    """The p-value needs no correction for alignment because of this, so it is worth a test."""
    assert list(inspect.signature(align).parameters) == ["mean", "shown", "classes", "expected"]
    source = inspect.getsource(alignment)
    imported = [line for line in source.splitlines() if line.startswith(("import ", "from "))]
    assert not [line for line in imported if "pi_agent" in line]
