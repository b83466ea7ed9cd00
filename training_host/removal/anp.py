"""ANP, adversarial neuron pruning: drop the channels through which a small perturbation does most harm.

Wu and Wang, NeurIPS 2021, section 4.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as nn_functional
from torch import nn

from pi_agent.contract.errors import RefusedModel
from training_host.data.arrays import LabelledSet
from training_host.nets.layers import Norm, norms_of
from training_host.removal.base import MODIFICATION, Stolen, Thief
from training_host.removal.masks import pruned, step_within_bounds
from training_host.training.augment import small_moves, to_batch
from training_host.training.tuning import some_of


@dataclass(frozen=True)
class ANP:
    """A mask 0..1 on every normalised channel, learnt in `steps` of SGD at `lr` on a `share` of the pictures, under
    weights and biases perturbed by up to `eps` in the worst direction; `alpha` weighs the loss without perturbation.
    Channels with small masks are dropped, under the highest threshold that costs at most `allowed` of those pictures.
    """

    eps: float = 0.4
    alpha: float = 0.2
    share: float = 0.2
    steps: int = 80
    lr: float = 0.2
    allowed: float = 0.05
    batch: int = 64

    @property
    def kind(self) -> str:
        """`MODIFICATION`."""
        return MODIFICATION

    def steal(self, thief: Thief) -> Stolen:
        """The pruned network. Raises `RefusedModel` (65) where it has no batch norm."""
        network = copy.deepcopy(thief.network).eval()
        norms = norms_of(thief.device.place(network))
        if not norms:
            raise RefusedModel(path="the network", reason="it has no batch norm", hint="use another architecture")
        data = some_of(thief.pictures, self.share, thief.rng())
        masks = self._masks(network, norms, data, thief)
        return Stolen.of(pruned(network, masks, _drop, data, self.allowed, thief.device), thief.device)

    def _masks(self, network: nn.Module, norms: Sequence[Norm], data: LabelledSet, thief: Thief) -> list[torch.Tensor]:
        device, generator = thief.device, thief.generator()
        images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels).to(device.name)
        masked = [_Masked(norm, device.name) for norm in norms]
        masks = [part.mask for part in masked]
        optimizer = torch.optim.SGD(masks, lr=self.lr, momentum=0.9)

        def loss(batch: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
            with device.autocast():
                return nn_functional.cross_entropy(network(batch).float(), labels[indices])

        try:
            for _ in range(self.steps):
                indices = torch.randint(len(data), (self.batch,), generator=generator)
                batch = small_moves(to_batch(images[indices], device.name), generator)
                noises = [noise for part in masked for noise in part.perturb(self.eps, generator)]
                gradients = torch.autograd.grad(loss(batch, indices), noises)
                with torch.no_grad():
                    for noise, gradient in zip(noises, gradients, strict=True):
                        noise.add_(self.eps * gradient.sign()).clamp_(-self.eps, self.eps)
                worst = loss(batch, indices)
                for part in masked:
                    part.noises = None
                total = self.alpha * loss(batch, indices) + (1 - self.alpha) * worst
                step_within_bounds(optimizer, masks, total)
        finally:
            for part in masked:
                part.handle.remove()
        return [mask.detach() for mask in masks]


class _Masked:
    """A norm whose scale is multiplied by `mask` plus noise, and its shift by one plus noise."""

    def __init__(self, norm: Norm, device: str) -> None:
        self.mask = torch.ones(norm.num_features, device=device, requires_grad=True)
        self.noises: list[torch.Tensor] | None = None
        self.handle = norm.register_forward_hook(self._hook)

    def perturb(self, eps: float, generator: torch.Generator) -> list[torch.Tensor]:
        """Start from a random perturbation of scale and of shift."""
        starts = [(torch.rand(len(self.mask), generator=generator) * 2 - 1) * eps for _ in range(2)]
        self.noises = [start.to(self.mask.device).requires_grad_() for start in starts]
        return self.noises

    def _hook(self, norm: Norm, inputs: object, output: torch.Tensor) -> torch.Tensor:
        shape = (1, -1, *([1] * (output.dim() - 2)))
        scale, shift = self.noises or (torch.zeros(()), torch.zeros(()))
        bias = norm.bias if norm.bias is not None else torch.zeros_like(self.mask)
        centred = output - bias.view(shape)
        changed: torch.Tensor = centred * (self.mask + scale).view(shape) + (bias * (1 + shift)).view(shape)
        return changed


def _drop(network: nn.Module, which: Sequence[torch.Tensor]) -> None:
    """A dropped channel keeps its shift, as in the authors' code."""
    with torch.no_grad():
        for norm, channels in zip(norms_of(network), which, strict=True):
            norm.weight[channels] = 0
