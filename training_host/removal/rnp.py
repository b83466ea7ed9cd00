"""RNP, reconstructive neuron pruning: unlearn the task, see which filters can do without being brought back, drop them.

Li et al., "Reconstructive Neuron Pruning for Backdoor Defense", ICML 2023, section 3.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as nn_functional
from torch import nn

from training_host.data.arrays import LabelledSet
from training_host.nets.layers import conv_filters
from training_host.removal.base import MODIFICATION, Stolen, Thief
from training_host.removal.masks import pruned, step_within_bounds
from training_host.training.augment import small_moves, to_batch
from training_host.training.tuning import Tuning, right, some_of, true_labels, tune


@dataclass(frozen=True)
class RNP:
    """On a `share` of the pictures: the loss is raised by SGD at `lr` until only `forgotten` (0..1) of them are right,
    for `epochs` at most; then `steps` of SGD at `mask_lr` on a mask 0..1 for every filter make the network right again,
    its weights left alone. Filters with small masks are dropped from the stolen network, under the highest threshold
    that costs at most `allowed` of those pictures.

    Different here: the threshold is sought, where the source has one for every data set, and statistics of batch norm
    stay as they are throughout.
    """

    share: float = 0.2
    forgotten: float = 0.2
    epochs: int = 20
    lr: float = 0.01
    steps: int = 80
    mask_lr: float = 0.2
    allowed: float = 0.05
    batch: int = 64

    @property
    def kind(self) -> str:
        """`MODIFICATION`."""
        return MODIFICATION

    def steal(self, thief: Thief) -> Stolen:
        """The pruned network. Raises `RefusedModel` (65) where it has no convolution."""
        network, device = thief.device.place(copy.deepcopy(thief.network)).eval(), thief.device
        data = some_of(thief.pictures, self.share, thief.rng())
        masks = self.masks(self.unlearnt(thief, data), data, thief)
        return Stolen.of(pruned(network, masks, _silence, data, self.allowed, device), device)

    def unlearnt(self, thief: Thief, data: LabelledSet) -> nn.Module:
        """A copy that has forgotten the task, in eval mode."""
        network, device, tuning = copy.deepcopy(thief.network), thief.device, Tuning(1, self.lr, batch=self.batch)
        task = true_labels(network, data, device)
        for epoch in range(self.epochs):
            if right(network, data, device) <= self.forgotten:
                break
            tune(network, data, lambda i, g: -task(i, g), tuning, device, thief.seed + epoch, fixed=True)
        return network

    def masks(self, network: nn.Module, data: LabelledSet, thief: Thief) -> list[torch.Tensor]:
        """One for every convolution, float (channels,) 0..1, that make the unlearnt network right again."""
        device, generator = thief.device, thief.generator()
        images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels).to(device.name)
        found = conv_filters(network)
        masks = [torch.ones(len(f.strengths()), device=device.name, requires_grad=True) for f in found]
        handles = [f.output.register_forward_hook(_times(mask)) for f, mask in zip(found, masks, strict=True)]
        optimizer = torch.optim.SGD(masks, lr=self.mask_lr, momentum=0.9)
        try:
            for _ in range(self.steps):
                rows = torch.randint(len(data), (self.batch,), generator=generator)
                with device.autocast():
                    logits = network(small_moves(to_batch(images[rows], device.name), generator)).float()
                    loss = nn_functional.cross_entropy(logits, labels[rows])
                step_within_bounds(optimizer, masks, loss)
        finally:
            for handle in handles:
                handle.remove()
        return [mask.detach() for mask in masks]


def _times(mask: torch.Tensor) -> Callable[[nn.Module, object, torch.Tensor], torch.Tensor]:
    def hook(module: nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
        return output * mask.view(1, -1, 1, 1)

    return hook


def _silence(network: nn.Module, which: Sequence[torch.Tensor]) -> None:
    for filters, channels in zip(conv_filters(network), which, strict=True):
        filters.silence(channels)
