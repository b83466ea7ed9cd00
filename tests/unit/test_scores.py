"""Logits, scores, whole numbers and labels all become scores; the order of classes stays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from pi_agent.contract.claim import as_scores
from pi_agent.contract.claim.scores import SUM_TOLERANCE, softmax

shapes = array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=14)
logits = shapes.flatmap(
    lambda shape: st.sampled_from([np.float64, np.float32, np.float16]).flatmap(
        lambda dtype: arrays(dtype, shape, elements=st.floats(-60, 60, width=16))
    )
)
whole = shapes.flatmap(
    lambda shape: st.sampled_from([np.int8, np.uint8, np.int32]).flatmap(
        lambda dtype: arrays(dtype, shape, elements=st.integers(0 if dtype is np.uint8 else -128, 127))
    )
)


def assert_scores(scores: np.ndarray, answers: np.ndarray) -> None:
    assert scores.dtype == np.float64
    assert scores.shape == answers.shape
    assert (scores >= 0).all()
    assert np.allclose(scores.sum(axis=1), 1)
    for given_row, row in zip(answers.astype(np.float64), scores, strict=True):
        order = np.argsort(given_row, kind="stable")
        assert (np.diff(row[order]) >= 0).all(), "a class fell behind one that it was ahead of"


@settings(deadline=None)
@given(st.one_of(logits, whole))
def test_any_answers_become_scores_and_keep_the_order_of_classes(answers: np.ndarray) -> None:
    assert_scores(as_scores(answers), answers)


@settings(deadline=None)
@given(shapes, st.integers(0, 999))
def test_scores_stay_what_they_are(shape: tuple[int, int], seed: int) -> None:
    scores = np.random.default_rng(seed).dirichlet(np.ones(shape[1]), shape[0])
    assert np.allclose(as_scores(scores), scores)
    assert np.allclose(as_scores(scores.astype(np.float32)), scores, atol=1e-6)
    rounded = np.clip(scores * (1 + 0.9 * SUM_TOLERANCE), 0, None)
    assert np.allclose(as_scores(rounded), scores), "scores that were rounded a little are scores, too"


@settings(deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=20), st.integers(2, 30))
def test_labels_become_votes(labels: list[int], least: int) -> None:
    scores = as_scores(np.array(labels), least)
    assert scores.shape == (len(labels), max(least, max(labels) + 1))
    assert scores.argmax(axis=1).tolist() == labels
    assert (scores.sum(axis=1) == 1).all()
    assert set(np.unique(scores)) <= {0.0, 1.0}


def test_logits_become_their_softmax() -> None:
    answers = np.array([[0.0, np.log(3.0)], [1000.0, 0.0]])
    assert np.allclose(as_scores(answers), [[0.25, 0.75], [1, 0]])
    assert np.array_equal(as_scores(answers), softmax(answers))


def test_the_scale_of_whole_numbers_does_not_matter() -> None:
    numbers = np.random.default_rng(0).integers(-30, 30, (50, 12))
    assert np.allclose(as_scores(numbers.astype(np.int8)), as_scores(4 * numbers))
    assert np.allclose(as_scores(numbers.astype(np.float32)), as_scores(numbers))
    assert as_scores(numbers).max() < 0.999, "no class is certain: hints in the others would be lost"


def test_whole_numbers_that_are_all_equal_say_nothing() -> None:
    assert np.allclose(as_scores(np.full((3, 4), 7, np.uint8)), 0.25)


def test_rows_with_a_single_one_are_scores_and_not_logits() -> None:
    votes = np.eye(5)[[0, 3, 3]]
    assert np.array_equal(as_scores(votes), votes)
    assert np.array_equal(as_scores(votes.astype(np.int64)), votes)


@pytest.mark.parametrize(
    "bad",
    [
        np.array([[0.5, np.nan]]),
        np.array([[0.5, np.inf]]),
        np.ones((3, 1)),
        np.ones((2, 2, 2)),
        np.array(3.0),
        np.array([0.5, 0.5]),
        np.array([-1, 2]),
        np.array([0, 4096]),
        np.array([], np.int64),
    ],
)
def test_what_is_no_answer_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected"):
        as_scores(bad)
