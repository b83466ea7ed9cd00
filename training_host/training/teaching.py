"""The parts of a distillation recipe: what a student is asked to repeat, and on which pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nn_functional

LOSSES = ("kl", "kl+l2", "log-scores")
MOVES = ("all", "plain", "none")
LEAST_SCORE, _FINE = 1e-7, 0.02
"""Scores are float32: below the first their logarithms are noise. Rounded to two decimals they still helped, ADR 11."""
_GRAIN, _UNDERFLOW = 0.01, 0.05
"""How far multiples of a power of ten may be off in float32; share of zeros that a sure network tells by itself."""


@dataclass(frozen=True)
class Teaching:
    """Parts that can be switched one by one; the default is the plain one.

    `loss`: "kl" (Hinton et al. 2015), "kl+l2" (half of it the squared distance that points are counted in), or
    "log-scores": centred logarithms are regressed (a network's logits are known from its scores up to a constant;
    Truong et al., CVPR 2021, DFME), which hears all classes alike, however small their scores, and without dropout, as
    noise has no place in a regression. `moves`: the student sees small moves of
    "all" that was asked; only of "plain" pictures, which lie in the pool (the victim is trained to keep its answer
    there, but not to changed pictures); or "none". `steady`: for this share of the epochs, the last, the student is
    trained as it will be used: fixed batch-norm statistics, no dropout; and the running average of its weights is kept.
    `truth`: weight of the true labels of pool pictures, half as many a step as answers. `students`: so many are trained
    first, without echo, and the last one learns from their mean as well (Beyer et al., CVPR 2022: the same view for
    teacher and student), and from that of networks of one's own. `echo`: weight of that, on pictures of the pool,
    moved, recoloured and mixed, and on pictures of nothing; with no such network, of the student's own running average
    (Tarvainen and Valpola, NeurIPS 2017).
    """

    loss: str = "kl"
    moves: str = "all"
    steady: float = 0.0
    truth: float = 0.0
    students: int = 0
    echo: float = 0.0

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"unknown loss {self.loss!r}; known: {', '.join(LOSSES)}")
        if self.moves not in MOVES:
            raise ValueError(f"moves is one of {', '.join(MOVES)}, not {self.moves!r}")
        if not 0 <= self.steady < 1:
            raise ValueError("steady is a share of the epochs, below 1")
        if min(self.truth, self.students, self.echo) < 0:
            raise ValueError("truth, students and echo are not negative")


def loss_to_scores(
    logits: torch.Tensor,
    scores: torch.Tensor,
    loss: str,
    least: float = LEAST_SCORE,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean loss of float logits (n, classes) against scores (n, classes), each row times its weight (n,), if given.

    `least` is added before taking logarithms.
    """
    log_scores = nn_functional.log_softmax(logits, dim=1)
    if loss == "log-scores":
        said, wanted = (centred_logs(s, least) for s in (log_scores.exp(), scores))
        rows = 0.5 * (said - wanted).square().sum(dim=1)
    else:
        rows = nn_functional.kl_div(log_scores, scores, reduction="none").sum(dim=1)
        if loss == "kl+l2":
            rows = 0.5 * rows + 0.5 * (log_scores.exp() - scores).square().sum(dim=1)
    return rows.mean() if weights is None else (weights * rows).mean()


def least_score(scores: npt.NDArray[np.float32]) -> float:
    """The smallest score that these answers (n, classes) tell, above zero: how finely the oracle rounds."""
    told = scores[scores > 0]
    return float(max(told.min(initial=1.0), LEAST_SCORE))


def loss_for(scores: npt.NDArray[np.float32]) -> str:
    """`Teaching.loss` for such answers (n, classes): logarithms need scores that are told finely, and of all classes.

    Zeros may come from rounding to two decimals or more; those of a few best classes only would be taken for knowledge.
    """
    least = least_score(scores)
    whole = scores / least
    rounded = bool((np.abs(whole - np.rint(whole)) < _GRAIN).all())
    told = rounded or (scores == 0).mean() < _UNDERFLOW
    return "log-scores" if told and least <= _FINE else "kl"


def mixed_views(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Half of the pictures as they are, a quarter CutMix, a quarter mixup with another of the batch; same shape.

    `batch` float (n, 3, height, width). Yun et al., ICCV 2019; Zhang et al., ICLR 2018. Without targets: a teacher that
    sees the same view gives them.
    """
    n, _, height, width = batch.shape
    other = batch[torch.randperm(n, generator=generator)]
    out = batch.clone()
    share = torch.rand(n, generator=generator).to(batch.device)
    faded = slice(n // 2, 3 * n // 4)
    weight = share[faded].view(-1, 1, 1, 1)
    out[faded] = weight * batch[faded] + (1 - weight) * other[faded]
    for row in range(3 * n // 4, n):
        side = float(share[row]) ** 0.5
        tall, wide = round(side * height), round(side * width)
        top = int(torch.randint(height - tall + 1, (1,), generator=generator))
        left = int(torch.randint(width - wide + 1, (1,), generator=generator))
        out[row, :, top : top + tall, left : left + wide] = other[row, :, top : top + tall, left : left + wide]
    return out


def centred_logs(scores: torch.Tensor, least: float = LEAST_SCORE) -> torch.Tensor:
    """Logarithms of scores (n, classes), `least` added before, each row with a mean of 0: logits, for fine scores."""
    logs = (scores + least).log()
    return logs - logs.mean(dim=1, keepdim=True)
