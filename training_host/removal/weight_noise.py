"""Gaussian noise on all weights."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch

from training_host.removal.base import MODIFICATION, Stolen, Thief
from training_host.training.loop import estimate_batch_norm
from training_host.training.supervised import clean_batches


@dataclass(frozen=True)
class WeightNoise:
    """Noise with `factor` times every tensor's own standard deviation; a constant tensor stays as it is."""

    factor: float = 0.2

    @property
    def kind(self) -> str:
        """`MODIFICATION`."""
        return MODIFICATION

    def steal(self, thief: Thief) -> Stolen:
        """The noisy network, its statistics re-estimated on the thief's pictures."""
        network, device, generator = copy.deepcopy(thief.network), thief.device, thief.generator()
        with torch.no_grad():
            for value in network.parameters():
                noise = torch.randn(value.shape, generator=generator).to(value.device)
                value.add_(noise * (self.factor * float(value.std(correction=0))))
        estimate_batch_norm(device.place(network), clean_batches(thief.pictures.images, device), device)
        return Stolen.of(network, device)
