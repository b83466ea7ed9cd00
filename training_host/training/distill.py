"""Train a substitute from a transfer set: the student repeats the oracle's score vectors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as nn_functional
from torch import nn

from training_host.data.arrays import ScoredSet
from training_host.nets.build import build_net
from training_host.training.augment import small_moves, to_batch
from training_host.training.device import Device
from training_host.training.loop import EpochReport, Recipe, fit
from training_host.training.supervised import clean_batches


def distill(
    arch: str,
    data: ScoredSet,
    recipe: Recipe,
    device: Device,
    *,
    checkpoint: Path | None = None,
    progress: Callable[[EpochReport], None] = lambda report: None,
) -> nn.Module:
    """Kullback-Leibler divergence to the answers, under small moves (Hinton et al. 2015; Orekondy et al. 2019).

    The small moves keep the answer of the unmoved picture: with few queries that beats repeating exact pairs.
    """
    model = build_net(arch, len(data.classes), recipe.seed)
    images, scores = torch.from_numpy(data.images), torch.from_numpy(data.scores).to(device.name)

    def loss_of(indices: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        batch = small_moves(to_batch(images[indices], device.name), generator)
        return nn_functional.kl_div(
            nn_functional.log_softmax(model(batch).float(), dim=1), scores[indices], reduction="batchmean"
        )

    fit(
        model,
        len(data.images),
        loss_of,
        recipe,
        device,
        calibration=lambda: clean_batches(data.images, device),
        checkpoint=checkpoint,
        progress=progress,
    )
    return model
