"""Fine-pruning: channels that sleep on clean pictures may serve the mark; drop them, then fine-tune.

Liu et al., RAID 2018, section 4.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from training_host.nets.layers import Filters, conv_filters, listening
from training_host.removal.base import MODIFICATION, Stolen, Thief
from training_host.training.device import Device
from training_host.training.supervised import clean_batches
from training_host.training.tuning import Tuning, right, some_of, true_labels, tune


@dataclass(frozen=True)
class FinePruning:
    """`share` (0..1) of the last convolution's channels at most, the least active first, as long as the network gets
    no more than `allowed` (0..1) of the thief's pictures wrong by it; then `epochs` of SGD at `lr`, on `clean` of them.

    .96 and ten epochs are those of the Watermark-Robustness-Toolbox; `allowed=1` prunes them all, as it does.
    """

    share: float = 0.96
    allowed: float = 0.05
    epochs: int = 10
    lr: float = 0.01
    clean: float = 1.0

    @property
    def kind(self) -> str:
        """`MODIFICATION`."""
        return MODIFICATION

    def steal(self, thief: Thief) -> Stolen:
        """The network without its sleepers. Raises `RefusedModel` (65) where there is no convolution."""
        network, device = copy.deepcopy(thief.network).eval(), thief.device
        data = some_of(thief.pictures, self.clean, thief.rng())
        filters = conv_filters(network)[-1]
        order = torch.argsort(_activity(network, filters, clean_batches(data.images, device), device), stable=True)
        least = right(network, data, device) - self.allowed
        most, gone = min(round(self.share * len(order)), len(order) - 1), 0
        for count in sorted({round(most * tenths / 10) for tenths in range(1, 11)}):
            attempt = copy.deepcopy(network)
            conv_filters(attempt)[-1].silence(order[:count])
            if right(attempt, data, device) >= least:
                gone = count
        silence = order[:gone]
        filters.silence(silence)
        tune(
            network,
            data,
            true_labels(network, data, device),
            Tuning(self.epochs, self.lr),
            device,
            thief.seed,
            after_step=lambda: filters.silence(silence),
            progress=thief.progress,
        )
        filters.silence(silence)
        return Stolen.of(network, device)


def _activity(network: nn.Module, filters: Filters, batches: Iterator[torch.Tensor], device: Device) -> torch.Tensor:
    """Mean answer of every channel behind the ReLU, float (channels,)."""
    device.place(network).eval()
    total = torch.zeros(filters.layer.weight.shape[0], device=device.name)
    with listening([filters.output]) as heard, torch.no_grad():
        for batch in batches:
            network(batch)
            total += torch.relu(heard[filters.output]).mean(dim=(2, 3)).sum(dim=0)
    return total
