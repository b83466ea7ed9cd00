"""A running average of a network's weights."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from training_host.nets.layers import norms_of


def running_average(model: nn.Module, decay: float = 0.998, *, batch_statistics: bool = True) -> AveragedModel:
    """A copy of `model` whose every `update_parameters(model)` moves it 1 - `decay` of the way, more in the beginning.

    (Polyak and Juditsky 1992; the warm-up is TensorFlow's ExponentialMovingAverage.) With `batch_statistics` its batch
    norms take those of the batch they see: running ones lag behind weights that still move. Dropout is off.
    """

    def towards(average: torch.Tensor, current: torch.Tensor, count: torch.Tensor | int) -> torch.Tensor:
        kept = min(decay, (1 + float(count)) / (10 + float(count)))
        return average + (1 - kept) * (current - average)

    averaged = AveragedModel(model, avg_fn=towards)
    averaged.requires_grad_(False)
    averaged.eval()
    for norm in norms_of(averaged) if batch_statistics else ():
        norm.train()
    return averaged
