"""What pruning by learnt masks shares: a step that keeps masks in 0..1, and how much may be dropped."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from training_host.data.arrays import LabelledSet
from training_host.training.device import Device
from training_host.training.tuning import right

Drop = Callable[[nn.Module, Sequence[torch.Tensor]], None]


def step_within_bounds(optimizer: torch.optim.Optimizer, masks: Sequence[torch.Tensor], loss: torch.Tensor) -> None:
    """One step on the masks alone, float (channels,) each, which stay within 0..1."""
    for mask, gradient in zip(masks, torch.autograd.grad(loss, masks), strict=True):
        mask.grad = gradient
    optimizer.step()
    with torch.no_grad():
        for mask in masks:
            mask.clamp_(0, 1)


def pruned(
    network: nn.Module, masks: Sequence[torch.Tensor], drop: Drop, data: LabelledSet, allowed: float, device: Device
) -> nn.Module:
    """A copy without the channels whose masks are small, or `network` itself where none can go.

    The highest threshold, 0.05 to 0.95, that costs at most `allowed` (0..1) of `data`. `drop` takes channels out of a
    network in place, those that are true in bool (channels,) for each mask.
    """
    least, chosen = right(network, data, device) - allowed, network
    for threshold in np.arange(0.05, 1.0, 0.05):
        attempt = copy.deepcopy(network)
        drop(attempt, [mask <= threshold for mask in masks])
        if right(attempt, data, device) >= least:
            chosen = attempt
    return chosen
