"""WRK, watermark removal attack: random labels for boundary pictures, a fresh last layer, clean fine-tuning.

From the paper on class-feature watermarks, arXiv 2511.07947; the numbers are those of its code.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as nn_functional
from torch import nn

from training_host.data.arrays import LabelledSet
from training_host.nets.layers import last_layer, reinitialise
from training_host.removal.base import MODIFICATION, Stolen, Thief
from training_host.training.augment import small_moves, to_batch
from training_host.training.device import Device
from training_host.training.tuning import Tuning, some_of, tune


@dataclass(frozen=True)
class WRK:
    """On `samples` of the pictures one step of `step` (in the range of pixels, 0..1, clipped to it) along the sign of
    the loss's gradient, with random labels; with them and a clean `share` `epochs` of SGD at `lr`, cosine, from a fresh
    last layer that `alpha` keeps away from the old one's direction.

    As coded: `share` .05, `step` 1 to 3, `lr` .001, `alpha` .01 to .1. With few pictures this leaves hardly a step to
    relearn the last layer in; a thief who wants a working model takes a larger `share` and `lr`.
    """

    share: float = 0.05
    samples: int = 100
    step: float = 2.0
    lr: float = 0.001
    epochs: int = 10
    alpha: float = 0.05

    @property
    def kind(self) -> str:
        """`MODIFICATION`."""
        return MODIFICATION

    def steal(self, thief: Thief) -> Stolen:
        """The network after it. Raises `RefusedModel` (65) where the last layer is not dense."""
        network, device, rng = copy.deepcopy(thief.network).eval(), thief.device, thief.rng()
        clean = some_of(thief.pictures, self.share, rng)
        odd = _stepped(network, clean.take(rng.integers(0, len(clean), self.samples)), self.step, device)
        odd_labels = rng.integers(0, len(clean.classes), len(odd))
        images = torch.cat([to_batch(torch.from_numpy(clean.images), device.name), odd])
        labels = torch.from_numpy(np.concatenate([clean.labels, odd_labels])).to(device.name)
        last = last_layer(network)
        old = last.weight.detach().clone()
        reinitialise(last, thief.seed)

        def loss_of(indices: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            batch = small_moves(images[indices], generator)
            task = nn_functional.cross_entropy(network(batch).float(), labels[indices])
            return task + self.alpha * (last.weight * old).sum()

        both = LabelledSet(_pixels(images), labels.cpu().numpy(), clean.classes, ("",) * len(images))
        tuning = Tuning(self.epochs, self.lr, schedule="cosine")
        tune(network, both, loss_of, tuning, device, thief.seed, calibration=clean.images, progress=thief.progress)
        return Stolen.of(network, device)


def _stepped(network: nn.Module, data: LabelledSet, step: float, device: Device) -> torch.Tensor:
    """Pictures after one step up the loss, float 0..1 (n, 3, height, width)."""
    inputs = to_batch(torch.from_numpy(data.images), device.name).requires_grad_()
    labels = torch.from_numpy(data.labels).to(device.name)
    loss = nn_functional.cross_entropy(device.place(network)(inputs).float(), labels)
    (gradient,) = torch.autograd.grad(loss, inputs)
    return (inputs.detach() + step * gradient.sign()).clamp(0, 1)


def _pixels(batch: torch.Tensor) -> np.ndarray:
    return (batch.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).cpu().numpy()
