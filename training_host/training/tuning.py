"""Train a finished network further, with the optimisers and schedules that papers on fine-tuning use.

`loop.fit` trains from scratch: one optimiser, one schedule, statistics from all the data. Here are few pictures, some
layers may be fixed, and what was learnt before shall stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nn_functional
from torch import nn

from pi_agent.contract.metrics import accuracy
from training_host.data.arrays import LabelledSet
from training_host.nets.layers import norms_of
from training_host.training.augment import small_moves, to_batch
from training_host.training.device import Device
from training_host.training.evaluate import predict
from training_host.training.loop import EpochReport, LossOf, estimate_batch_norm
from training_host.training.supervised import clean_batches

OPTIMISERS, SCHEDULES = ("sgd", "adamw"), ("constant", "cosine", "halve")
FEW = 256
"""With fewer pictures than this, batch norm keeps the statistics that came with the network: theirs are too noisy."""


@dataclass(frozen=True)
class Tuning:
    """`optimiser` "sgd" (momentum .9) or "adamw"; `schedule` "constant", "cosine" (to zero), "halve" (every 5 epochs).

    `clip`: a gradient longer than this (L2, all trained weights together) is shortened to it; infinity for never.
    Papers tune large networks at learning rates that make a small one explode within some epochs, and a network of NaN
    says nothing about a mark.
    Raises `ValueError` for another name, or a `clip` that is not positive.
    """

    epochs: int
    lr: float
    optimiser: str = "sgd"
    schedule: str = "constant"
    batch: int = 64
    weight_decay: float = 0.0
    clip: float = 1.0

    def __post_init__(self) -> None:
        if self.optimiser not in OPTIMISERS or self.schedule not in SCHEDULES:
            raise ValueError(f"one of {', '.join(OPTIMISERS)} and one of {', '.join(SCHEDULES)}, not {self}")
        if not self.clip > 0:
            raise ValueError(f"a gradient is clipped to a positive length, not {self.clip}")

    def rate(self, progress: float) -> float:
        """The learning rate after `progress` epochs."""
        if self.schedule == "cosine":
            return self.lr * 0.5 * (1 + float(np.cos(np.pi * progress / max(1, self.epochs))))
        return self.lr * 0.5 ** (progress // 5) if self.schedule == "halve" else self.lr


def tune(
    model: nn.Module,
    data: LabelledSet,
    loss_of: LossOf,
    tuning: Tuning,
    device: Device,
    seed: int,
    *,
    parameters: Iterable[torch.Tensor] | None = None,
    fixed: bool = False,
    after_step: Callable[[], None] = lambda: None,
    calibration: npt.NDArray[np.uint8] | None = None,
    progress: Callable[[EpochReport], None] = lambda report: None,
) -> None:
    """Train `model` in place on `data` and leave it in eval mode, batch-norm statistics re-estimated on `data`.

    `parameters`: those to be trained, all that can be by default. `fixed`: dropout is off and statistics stay as they
    are, throughout; statistics also stay where there are fewer than `FEW` pictures. `calibration`: the pictures for the
    statistics, uint8 (n, height, width, 3), where `data` are not clean.
    """
    keeps = fixed or len(data) < FEW
    trained = [p for p in (model.parameters() if parameters is None else parameters) if p.requires_grad]
    resting = [p for p in model.parameters() if p.requires_grad and all(p is not other for other in trained)]
    for parameter in resting:
        parameter.requires_grad_(False)  # or gradients are computed that nobody needs
    optimizer = _optimizer(trained, tuning)
    generator = torch.Generator().manual_seed(seed)
    batch = min(tuning.batch, len(data))
    steps = max(1, len(data) // max(1, batch))
    device.place(model).train(not fixed)
    for norm in norms_of(model) if keeps else ():
        norm.eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # dropout draws from torch's global generator
        for epoch in range(tuning.epochs):
            order, total = torch.randperm(len(data), generator=generator), 0.0
            for step in range(steps):
                for group in optimizer.param_groups:
                    group["lr"] = tuning.rate(epoch + step / steps)
                with device.autocast():
                    loss = loss_of(order[step * batch : (step + 1) * batch], generator)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(trained, tuning.clip)
                optimizer.step()
                after_step()
                total += float(loss.detach())
            progress(EpochReport(epoch + 1, tuning.epochs, total / steps))
    for parameter in resting:
        parameter.requires_grad_(True)
    if not keeps:
        images = data.images if calibration is None else calibration
        estimate_batch_norm(model, clean_batches(images, device), device)
    model.eval()


def true_labels(model: nn.Module, data: LabelledSet, device: Device) -> LossOf:
    """Cross-entropy on the true labels under small moves, for `tune`."""
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels).to(device.name)

    def loss_of(indices: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        batch = small_moves(to_batch(images[indices], device.name), generator)
        return nn_functional.cross_entropy(model(batch).float(), labels[indices])

    return loss_of


def some_of(data: LabelledSet, share: float, rng: np.random.Generator) -> LabelledSet:
    """A random `share` (0..1] of the pictures, and at least two of every class, where there are two.

    Raises `ValueError` for a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"a share lies in (0, 1], not {share}")
    order = rng.permutation(len(data))
    chosen = set(order[: round(share * len(data))].tolist())
    for number in range(len(data.classes)):
        chosen.update(order[data.labels[order] == number][:2].tolist())
    return data.take(np.array(sorted(chosen), dtype=np.int64))


def right(model: nn.Module, data: LabelledSet, device: Device) -> float:
    """Share of `data` that the network gets right, 0..1."""
    return float(accuracy(predict(model, data.images, device), data.labels))


def _optimizer(parameters: list[torch.Tensor], tuning: Tuning) -> torch.optim.Optimizer:
    if tuning.optimiser == "adamw":
        return torch.optim.AdamW(parameters, lr=tuning.lr, weight_decay=tuning.weight_decay)
    return torch.optim.SGD(parameters, lr=tuning.lr, momentum=0.9, weight_decay=tuning.weight_decay)
