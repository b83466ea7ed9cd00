"""The training loop: shuffled batches, OneCycle AdamW, checkpoints, batch-norm statistics re-estimated at the end.

What is learnt stands in the caller's `loss_of(indices, generator)`; the loop knows nothing of labels or watermarks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pi_agent.contract.files import atomic_write
from training_host.training.device import Device
from training_host.training.ranks import our_ranks

LossOf = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of one training; its repr is its identity (a checkpoint of another recipe is not resumed)."""

    epochs: int
    batch: int = 64
    max_lr: float = 2e-3
    weight_decay: float = 0.01
    seed: int = 0


@dataclass(frozen=True)
class EpochReport:
    """What the caller's progress display gets after every epoch."""

    epoch: int
    epochs: int
    loss: float


def fit(
    model: nn.Module,
    count: int,
    loss_of: LossOf,
    recipe: Recipe,
    device: Device,
    *,
    calibration: Callable[[], Iterator[torch.Tensor]],
    before: Callable[[float], None] = lambda progress: None,
    after: Callable[[], None] = lambda: None,
    companions: Mapping[str, nn.Module] | None = None,
    steady: bool = False,
    checkpoint: Path | None = None,
    progress: Callable[[EpochReport], None] = lambda report: None,
) -> None:
    """Train `model` in place on `count` examples and leave it in eval mode.

    `calibration` yields clean input batches for the final batch-norm statistics. `before` is told before every step how
    much of the training is done, 0 to 1; `after` is called after every step. `steady`: batch norm keeps the statistics
    it has and dropout is off, so that nothing is estimated at the end. With `checkpoint` the state of every epoch
    is kept there, that of `companions` included, and training goes on from it after an interruption; the file is
    removed at the end. Started by `torchrun`, every process trains on its part of every batch; the first one keeps the
    file.
    """
    ranks = our_ranks()
    device.place(model).train(not steady)
    ranks.agree(model)
    steps = max(1, count // recipe.batch)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=recipe.max_lr, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.max_lr, total_steps=max(2, recipe.epochs * steps))
    generator = torch.Generator().manual_seed(recipe.seed)
    state = {"model": model, "optimizer": optimizer, "schedule": schedule, **(companions or {})}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed + ranks.rank)  # dropout draws from torch's global generator
        for epoch in range(_resume(checkpoint, recipe, state, generator), recipe.epochs):
            own = generator if ranks.world == 1 else ranks.generator(recipe.seed, epoch)
            order = torch.randperm(count, generator=generator)
            total = 0.0
            for step in range(steps):
                indices = order[step * recipe.batch : (step + 1) * recipe.batch]
                before((epoch + step / steps) / recipe.epochs)
                with device.autocast():
                    loss = loss_of(ranks.part(indices), own)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                ranks.average(trained)
                optimizer.step()
                schedule.step()
                after()
                total += float(loss.detach())
            if ranks.first:
                _save(checkpoint, recipe, state, generator, epoch + 1)
            ranks.wait()
            progress(EpochReport(epoch + 1, recipe.epochs, total / steps))
    if not steady:
        estimate_batch_norm(model, calibration(), device)
    model.eval()
    if checkpoint is not None and ranks.first:
        checkpoint.unlink(missing_ok=True)


def estimate_batch_norm(model: nn.Module, batches: Iterator[torch.Tensor], device: Device) -> None:
    """Replace running means and variances by those of clean data under the final weights.

    With Keras' momentum of .99 a short training ends with statistics of weights that are long gone.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over all batches
        norm.train()
    with torch.no_grad():
        for batch in batches:
            model(batch.to(device.name))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _save(path: Path | None, recipe: Recipe, state: dict[str, Any], generator: torch.Generator, epoch: int) -> None:
    if path is None:
        return
    content = {name: part.state_dict() for name, part in state.items()}
    rng = {"batches": generator.get_state(), "global": torch.get_rng_state()}
    with atomic_write(path) as stream:
        torch.save({"recipe": asdict(recipe), "epoch": epoch, "rng": rng, **content}, stream)


def _resume(path: Path | None, recipe: Recipe, state: dict[str, Any], generator: torch.Generator) -> int:
    """Load a checkpoint of the same recipe and return the epoch to go on with; 0 where there is none."""
    if path is None or not path.is_file():
        return 0
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
        if content["recipe"] != asdict(recipe):
            return 0
        for name, part in state.items():
            part.load_state_dict(content[name])
        generator.set_state(content["rng"]["batches"])
        torch.set_rng_state(content["rng"]["global"])
        return int(content["epoch"])
    except Exception:
        # A damaged or foreign checkpoint costs time, not correctness: start again.
        return 0
