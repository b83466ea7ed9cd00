"""How a substitute is measured against its victim. Every array holds one score vector per row."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.floating]
Labels = npt.NDArray[np.integer]


def mean_l2(victim: Scores, other: Scores) -> float:
    """Mean Euclidean distance between score vectors, both shaped (images, classes), in 0..sqrt(2).

    The measure of CSAW ESC 2022 "dumps7er d1VE". Raises `ValueError` for shapes that differ or for no images.
    """
    _same_shape(victim, other)
    difference = np.asarray(victim, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    return float(np.linalg.norm(difference, axis=1).mean())


def points(l2: float, l2_independent: float) -> float:
    """Competition points: an independent network's L2 is 0 points, an L2 of zero is 100; worse than it is negative."""
    if l2_independent <= 0:
        raise ValueError("the independent network equals the victim: there is no scale to measure on")
    return 100.0 * (1.0 - l2 / l2_independent)


def agreement(victim: Scores, other: Scores) -> float:
    """Share of images (0..1) on which both name the same class (label fidelity, Jagielski et al. 2020)."""
    _same_shape(victim, other)
    return float((np.argmax(victim, axis=1) == np.argmax(other, axis=1)).mean())


def accuracy(scores: Scores, labels: Labels) -> float:
    """Share of images (0..1) whose highest score is on the true label."""
    return float((np.argmax(scores, axis=1) == labels).mean())


def mean_predictor(victim: Scores) -> float:
    """L2 of the best constant guess, the victim's own mean vector: whoever is worse has learnt nothing."""
    return mean_l2(victim, np.broadcast_to(np.asarray(victim).mean(axis=0), np.shape(victim)))


def _same_shape(victim: Scores, other: Scores) -> None:
    if np.shape(victim) != np.shape(other) or np.ndim(victim) != 2 or len(victim) == 0:
        raise ValueError(f"score arrays must share one shape (images, classes): {np.shape(victim)}, {np.shape(other)}")


def standard_error(answers: Scores) -> float:
    """Largest standard error of the mean over the classes; `answers`, shaped (answers, classes), are of one image.

    Infinite for fewer than two answers.
    """
    if len(answers) < 2:
        return float("inf")
    deviation = np.asarray(answers, dtype=np.float64).std(axis=0, ddof=1)
    return float(deviation.max() / np.sqrt(len(answers)))
