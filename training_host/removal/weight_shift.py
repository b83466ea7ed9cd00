"""Weight shifting: take the filters' common part away, add noise, and fine-tune.

As coded in the Watermark-Robustness-Toolbox (Lukas et al., IEEE S&P 2022): every convolution loses `factor` times the
mean of its filters, and gets noise of `noise` times its standard deviation.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch

from training_host.nets.layers import conv_filters
from training_host.removal.base import MODIFICATION, Stolen, Thief
from training_host.training.tuning import Tuning, some_of, true_labels, tune


@dataclass(frozen=True)
class WeightShift:
    """`factor` 1.5 and 2.5, `noise` 1 and ten epochs are the source's; SGD at `lr` on a `share` of the pictures."""

    factor: float = 1.5
    noise: float = 1.0
    epochs: int = 10
    lr: float = 0.01
    share: float = 1.0

    @property
    def kind(self) -> str:
        """`MODIFICATION`."""
        return MODIFICATION

    def steal(self, thief: Thief) -> Stolen:
        """The shifted network, fine-tuned. Raises `RefusedModel` (65) where there is no convolution."""
        network, device, generator = copy.deepcopy(thief.network), thief.device, thief.generator()
        data = some_of(thief.pictures, self.share, thief.rng())
        with torch.no_grad():
            for filters in conv_filters(network):
                weight = filters.layer.weight
                noise = torch.randn(weight.shape, generator=generator).to(weight.device) * weight.std(correction=0)
                weight.sub_(weight.mean(dim=0, keepdim=True) * self.factor + noise * self.noise)
        loss_of, tuning = true_labels(network, data, device), Tuning(self.epochs, self.lr)
        tune(network, data, loss_of, tuning, device, thief.seed, progress=thief.progress)
        return Stolen.of(network, device)
