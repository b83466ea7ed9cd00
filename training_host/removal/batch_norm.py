"""New batch-norm statistics and nothing else: a mark that hides in them is gone."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from training_host.removal.base import MODIFICATION, Stolen, Thief
from training_host.training.loop import estimate_batch_norm
from training_host.training.supervised import clean_batches
from training_host.training.tuning import some_of


@dataclass(frozen=True)
class BatchNormOnly:
    """Means and variances of a `share` (0..1] of the thief's pictures; no weight changes."""

    share: float = 1.0

    @property
    def kind(self) -> str:
        """`MODIFICATION`."""
        return MODIFICATION

    def steal(self, thief: Thief) -> Stolen:
        """The network with the thief's statistics."""
        network, device = copy.deepcopy(thief.network), thief.device
        images = some_of(thief.pictures, self.share, thief.rng()).images
        estimate_batch_norm(device.place(network), clean_batches(images, device), device)
        return Stolen.of(network, device)
