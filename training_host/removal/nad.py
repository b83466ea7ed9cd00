"""NAD, neural attention distillation: a fine-tuned copy teaches the stolen network where to look.

Li et al., ICLR 2021, section 3.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as nn_functional
from torch import nn

from training_host.data.arrays import LabelledSet
from training_host.nets.layers import conv_filters, listening
from training_host.removal.base import MODIFICATION, Stolen, Thief
from training_host.training.augment import small_moves, to_batch
from training_host.training.device import Device
from training_host.training.loop import LossOf
from training_host.training.tuning import Tuning, some_of, true_labels, tune


@dataclass(frozen=True)
class NAD:
    """A teacher is fine-tuned for `teacher_epochs`; then the network learns the labels, and `beta` times the squared
    distance of its attention maps from the teacher's, for `epochs`. Both on the same `share` of pictures, SGD at `lr`.
    """

    share: float = 0.2
    teacher_epochs: int = 10
    epochs: int = 10
    lr: float = 0.01
    beta: float = 1000.0

    @property
    def kind(self) -> str:
        """`MODIFICATION`."""
        return MODIFICATION

    def teacher(self, thief: Thief) -> nn.Module:
        """The fine-tuned copy, in eval mode."""
        network, device, data = copy.deepcopy(thief.network), thief.device, self._pictures(thief)
        loss_of, tuning = true_labels(network, data, device), Tuning(self.teacher_epochs, self.lr)
        tune(network, data, loss_of, tuning, device, thief.seed, progress=thief.progress)
        return network

    def steal(self, thief: Thief) -> Stolen:
        """The network that was taught. Raises `RefusedModel` (65) where there is no convolution."""
        teacher, student = self.teacher(thief), copy.deepcopy(thief.network)
        data, device = self._pictures(thief), thief.device
        taught, teaching = ([f.output for f in conv_filters(net)] for net in (student, teacher))
        with listening(taught) as of_student, listening(teaching) as of_teacher:

            def distance() -> torch.Tensor:
                pairs = zip(taught, teaching, strict=True)
                return _distance([(of_student[mine], of_teacher[theirs]) for mine, theirs in pairs])

            loss_of = _loss(student, teacher, data, device, lambda: distance() * self.beta)
            tuning = Tuning(self.epochs, self.lr)
            tune(student, data, loss_of, tuning, device, thief.seed + 1, progress=thief.progress)
        return Stolen.of(student, device)

    def _pictures(self, thief: Thief) -> LabelledSet:
        return some_of(thief.pictures, self.share, thief.rng())


def _loss(
    student: nn.Module, teacher: nn.Module, data: LabelledSet, device: Device, attention: Callable[[], torch.Tensor]
) -> LossOf:
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels).to(device.name)

    def loss_of(indices: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        batch = small_moves(to_batch(images[indices], device.name), generator)
        with torch.no_grad():
            teacher(batch)
        task = nn_functional.cross_entropy(student(batch).float(), labels[indices])
        total: torch.Tensor = task + attention()
        return total

    return loss_of


def _distance(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    parts = [nn_functional.mse_loss(_map(mine), _map(theirs)) for mine, theirs in pairs]
    return torch.stack(parts).sum()


def _map(features: torch.Tensor) -> torch.Tensor:
    """Sum of squares over the channels, of unit length: float (n, height * width)."""
    squares = torch.relu(features.float()).square().sum(dim=1).flatten(1)
    unit: torch.Tensor = squares / (squares.norm(dim=1, keepdim=True) + 1e-6)
    return unit
