"""Weights of a few bits: every tensor rounded to an even grid of its own.

After `WeightQuantization` of the Watermark-Robustness-Toolbox (Lukas et al., IEEE S&P 2022), which fine-tunes for an
epoch; here the result is rounded again, so that the weights that are served have that few bits.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn

from training_host.nets.layers import weight_layers
from training_host.removal.base import MODIFICATION, Stolen, Thief
from training_host.training.loop import estimate_batch_norm
from training_host.training.supervised import clean_batches
from training_host.training.tuning import Tuning, true_labels, tune


@dataclass(frozen=True)
class FewBits:
    """`bits` (1..16) per weight; `epochs` of SGD at `lr` between two roundings, 0 for one rounding and no training.

    Raises `ValueError` for another number of bits.
    """

    bits: int = 5
    epochs: int = 1
    lr: float = 0.001

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 16:
            raise ValueError(f"between 1 and 16 bits, not {self.bits}")

    @property
    def kind(self) -> str:
        """`MODIFICATION`."""
        return MODIFICATION

    def steal(self, thief: Thief) -> Stolen:
        """The rounded network, its statistics re-estimated on the thief's pictures."""
        network, data, device = copy.deepcopy(thief.network), thief.pictures, thief.device
        _round(network, self.bits)
        if self.epochs:
            loss_of, tuning = true_labels(network, data, device), Tuning(self.epochs, self.lr)
            tune(network, data, loss_of, tuning, device, thief.seed, progress=thief.progress)
            _round(network, self.bits)
        estimate_batch_norm(device.place(network), clean_batches(data.images, device), device)
        return Stolen.of(network, device)


def _round(network: nn.Module, bits: int) -> None:
    with torch.no_grad():
        for layer in weight_layers(network):
            low, high = layer.weight.min(), layer.weight.max()
            grid = torch.linspace(float(low), float(high), 2**bits, device=low.device)
            if high > low:
                step = (high - low) / (2**bits - 1)
                layer.weight.copy_(grid[((layer.weight - low) / step).round().long().clamp(0, 2**bits - 1)])
