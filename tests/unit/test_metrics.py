"""The measures have the values that one computes by hand."""

import numpy as np
import pytest

from pi_agent.contract.metrics import accuracy, agreement, mean_l2, mean_predictor, points

VICTIM = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
OTHER = np.array([[0.0, 1.0], [0.0, 1.0], [0.5, 0.5]])


def test_known_values():
    assert mean_l2(VICTIM, OTHER) == pytest.approx(np.sqrt(2) / 3)
    assert agreement(VICTIM, OTHER) == pytest.approx(2 / 3)
    assert accuracy(VICTIM, np.array([0, 1, 1])) == pytest.approx(2 / 3)
    assert mean_predictor(VICTIM) == pytest.approx((np.sqrt(0.5) * 2 + 0) / 3)


def test_the_scale_of_points():
    assert points(0.0, 0.2) == 100 and points(0.2, 0.2) == 0 and points(0.3, 0.2) == pytest.approx(-50)
    with pytest.raises(ValueError, match="no scale"):
        points(0.1, 0.0)


def test_identical_models_are_at_distance_zero_and_agree():
    assert mean_l2(VICTIM, VICTIM) == 0 and agreement(VICTIM, VICTIM) == 1


@pytest.mark.parametrize("other", [OTHER[:2], OTHER[:, :1], OTHER[0], np.empty((0, 2))])
def test_unequal_or_empty_arrays_are_refused(other: np.ndarray):
    with pytest.raises(ValueError, match="shape"):
        mean_l2(VICTIM[: len(other)] if other.ndim == 1 else VICTIM, other)
    with pytest.raises(ValueError, match="shape"):
        agreement(np.empty((0, 2)), np.empty((0, 2)))
