"""How much an answer counts where an oracle's noise changes it from one time to the next."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

COPY_L2 = 0.1
"""How far a good substitute is from its victim anyway: noise that is small beside it makes no difference."""


def noise_weights(answers: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32] | None:
    """Weights in 0..1 for the mean answers, float32 (n,); None where nothing is noisy, or nothing was asked twice.

    `answers`: of every picture all its score vectors, (times, classes). Inverse variance: the variance of one answer,
    pooled over all pictures that were asked again, divided by how often a picture was asked, beside the substitute's
    own error. An answer without noise counts 1.
    """
    again = [vectors for vectors in answers if len(vectors) > 1]
    freedom = sum(len(vectors) - 1 for vectors in again)
    if not freedom:
        return None
    single = sum(float(vectors.var(axis=0, dtype=np.float64).sum()) * len(vectors) for vectors in again) / freedom
    if not single:
        return None
    times = np.array([len(vectors) for vectors in answers], dtype=np.float64)
    return np.asarray(COPY_L2**2 / (COPY_L2**2 + single / times), dtype=np.float32)
