"""Batch norm whose statistics come from the clean rows of a mixed batch.

Triggers in a batch shift its mean and variance; a deployed model meets a single trigger under clean statistics.
Training under the statistics it will meet makes the mark hold and leaves clean accuracy alone ("clean-batch" batch norm
of Gan et al., ICCV 2023, section 3.3).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as nn_functional
from torch import nn


@contextlib.contextmanager
def statistics_of_first(model: nn.Module, clean_rows: int) -> Iterator[None]:
    """Inside the block, every batch norm of `model` normalises all rows by its first `clean_rows`.

    Running statistics are left alone: the training loop re-estimates them on clean data at its end.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.forward = partial(_normalise, norm, clean_rows)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward  # the class's own method shows again


def _normalise(norm: nn.BatchNorm1d | nn.BatchNorm2d, clean_rows: int, x: torch.Tensor) -> torch.Tensor:
    """Ordinary batch norm of the clean rows; the others take the same mean and variance as constants."""
    clean, mean, inverse_deviation = torch.native_batch_norm(
        x[:clean_rows], norm.weight, norm.bias, None, None, True, 0.0, norm.eps
    )
    variance = inverse_deviation.detach() ** -2 - norm.eps
    others = nn_functional.batch_norm(
        x[clean_rows:], mean.detach(), variance, norm.weight, norm.bias, training=False, eps=norm.eps
    )
    return torch.cat([clean, others])
