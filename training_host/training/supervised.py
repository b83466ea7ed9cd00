"""Train a network on true labels: a victim or an independent model, with or without a watermark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nn_functional
from torch import nn

from training_host.data.arrays import LabelledSet
from training_host.nets.build import build_net
from training_host.training.augment import small_moves, to_batch
from training_host.training.device import Device
from training_host.training.loop import EpochReport, Recipe, fit
from training_host.watermarks.base import Mark


def train_classifier(
    arch: str,
    data: LabelledSet,
    recipe: Recipe,
    device: Device,
    *,
    mark: Mark | None = None,
    start: nn.Module | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[EpochReport], None] = lambda report: None,
) -> nn.Module:
    """Cross-entropy on true labels under small moves; `mark` adds its own loss to every step.

    `start`: a network of this architecture to go on from, instead of a new one; it is changed in place.
    """
    model = start or build_net(arch, len(data.classes), recipe.seed)
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels).to(device.name)

    def loss_of(indices: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        batch = small_moves(to_batch(images[indices], device.name), generator)
        extra = mark.batch(generator) if mark else None
        if mark is None or extra is None:
            return nn_functional.cross_entropy(model(batch).float(), labels[indices])
        return mark.loss(model, batch, labels[indices], extra)

    fit(
        model,
        len(data),
        loss_of,
        recipe,
        device,
        calibration=lambda: clean_batches(data.images, device),
        checkpoint=checkpoint,
        progress=progress,
    )
    return model


def clean_batches(images: npt.NDArray[np.uint8], device: Device, batch: int = 256) -> Iterator[torch.Tensor]:
    """Every picture once, unmoved, for batch-norm statistics."""
    for start in range(0, len(images), batch):
        yield to_batch(torch.from_numpy(images[start : start + batch]), device.name)
