"""Pruning by magnitude: single weights of all layers together, or whole filters of every layer."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn

from training_host.nets.layers import hidden_filters, weight_layers
from training_host.removal.base import MODIFICATION, Stolen, Thief
from training_host.training.loop import estimate_batch_norm
from training_host.training.supervised import clean_batches


@dataclass(frozen=True)
class Prune:
    """`share` (0..1) of all weights, the smallest ones; `structured`: that share of the filters of every convolution
    and of the units of every dense layer but the last, those with the smallest L1 norm (Li et al., ICLR 2017); one of a
    layer is left.

    Raises `ValueError` for a share outside [0, 1).
    """

    share: float = 0.5
    structured: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise ValueError(f"a share of weights lies in [0, 1), not {self.share}")

    @property
    def kind(self) -> str:
        """`MODIFICATION`."""
        return MODIFICATION

    def steal(self, thief: Thief) -> Stolen:
        """The pruned network, its statistics re-estimated on the thief's pictures."""
        network, device = copy.deepcopy(thief.network), thief.device
        if self.structured:
            _drop_filters(network, self.share)
        else:
            _drop_weights(network, self.share)
        estimate_batch_norm(device.place(network), clean_batches(thief.pictures.images, device), device)
        return Stolen.of(network, device)


def _drop_filters(network: nn.Module, share: float) -> None:
    for filters in hidden_filters(network):
        strengths = filters.strengths()
        count = min(round(share * len(strengths)), len(strengths) - 1)
        filters.silence(torch.argsort(strengths, stable=True)[:count])


def _drop_weights(network: nn.Module, share: float) -> None:
    layers = weight_layers(network)
    sizes = torch.cat([layer.weight.detach().abs().flatten() for layer in layers])
    keep = torch.ones_like(sizes)
    keep[torch.argsort(sizes, stable=True)[: round(share * len(sizes))]] = 0
    with torch.no_grad():
        for layer, part in zip(layers, keep.split([layer.weight.numel() for layer in layers]), strict=True):
            layer.weight.mul_(part.view(layer.weight.shape))
