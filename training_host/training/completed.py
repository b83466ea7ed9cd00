"""Networks of one's own answer for what nobody asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import nn

from training_host.data.arrays import ScoredSet
from training_host.training.device import Device
from training_host.training.evaluate import predict
from training_host.training.teaching import LEAST_SCORE, least_score, loss_for


def completed(
    answers: ScoredSet, pool: npt.NDArray[np.uint8] | None, own: Sequence[nn.Module], device: Device
) -> ScoredSet:
    """The oracle's answers and, behind them, what `own` say to every picture of `pool` that is not among them.

    `pool` uint8 (m, height, width, 3). Where logarithms are learnt own networks are told as coarsely as the
    oracle: what it would round away is zero. Without answers (n = 0) all of the pool is theirs.
    """
    if pool is None or not own:
        return answers
    asked = {picture.tobytes() for picture in answers.images}
    others = pool[[picture.tobytes() not in asked for picture in pool]]
    if not len(others):
        return answers
    scores = geometric_mean([predict(network, others, device) for network in own])
    if loss_for(answers.scores) == "log-scores":
        scores[scores < least_score(answers.scores)] = 0
    images, told = np.concatenate([answers.images, others]), np.concatenate([answers.scores, scores])
    weights = answers.weights
    if weights is not None:
        weights = np.concatenate([weights, np.ones(len(others), np.float32)])
    return ScoredSet(images, told, answers.classes, weights=weights)


def geometric_mean(votes: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """One answer of several networks, scores (n, classes) each: their mean logarithms, scaled to a sum of 1.

    An ensemble in logits: nearer to a victim than the mean of the scores, ADR 11.
    """
    logarithms = np.mean([np.log(np.maximum(scores, LEAST_SCORE)) for scores in votes], axis=0)
    scores = np.exp(logarithms)
    return np.asarray(scores / scores.sum(axis=1, keepdims=True), dtype=np.float32)
