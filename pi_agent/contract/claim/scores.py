"""Any honest model's answers as scores: logits, scores, quantised numbers or class numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SUM_TOLERANCE = 0.02


def as_scores(answers: npt.NDArray[np.generic], least: int = 2) -> npt.NDArray[np.float64]:
    """Scores, float64 (n, k), rows summing to one.

    Floating-point (n, k) that is non-negative with rows summing to one are scores already; any other is taken for
    logits. Whole numbers (n, k) are a quantised model's: their scale is unknown, so they are spread until their
    standard deviation is that of a confident classifier's logits, 2. Class numbers (n,) become votes with at least
    `least` columns. None of this looks at a key, so no p-value is touched by it.
    Raises `ValueError` for other shapes, for class numbers outside 0..4095 and for what is not finite.
    """
    if answers.ndim == 1 and answers.dtype.kind in "iu":
        if not len(answers) or answers.min() < 0 or answers.max() > 4095:
            raise ValueError("class numbers from 0 to 4095 are expected")
        votes: npt.NDArray[np.float64] = np.eye(max(least, int(answers.max()) + 1))[answers.astype(np.intp)]
        return votes
    if answers.ndim != 2 or answers.shape[1] < 2 or not np.isfinite(answers.astype(np.float64)).all():
        raise ValueError(f"finite answers of shape (pictures, classes) are expected, not {answers.shape}")
    values = answers.astype(np.float64)
    sums = values.sum(axis=1, keepdims=True)
    if (values >= 0).all() and (np.abs(sums - 1) <= SUM_TOLERANCE).all():
        return np.asarray(values / sums)
    if (values == np.rint(values)).all() and (spread := float(values.std())) > 0:
        values = values / spread * 2
    return softmax(values)


def softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Row by row, without overflow."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
