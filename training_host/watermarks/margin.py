"""Margin-based watermarking: triggers that keep their labels in a wide neighbourhood (Kim et al., ICML 2023)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as nn_functional
from torch import nn

from pi_agent.contract.claim import WatermarkKey
from training_host.data.arrays import LabelledSet
from training_host.training.augment import to_batch
from training_host.training.device import Device
from training_host.watermarks.base import Finding, ScoresOf, TriggerBatch
from training_host.watermarks.trigger_set import DrawnTriggers, draw_triggers, find_drawn, must_fit

_PURPOSE = "margin"


@dataclass(frozen=True)
class Margin:
    """`pictures`: triggers altogether; `per_step`: sampled for every batch; `ascent`: steps of size `step` (in 0..1)
    that make them harder before they are learnt; `weight`: a trigger's cross-entropy against a picture's.

    Defaults are those of the authors' code, but for `weight`: theirs is 0.1, for some hundred times as many steps. In
    24 epochs of 591 pictures 0.1 taught 18 of 100 triggers and 1.0 taught 96, at a price in accuracy. Their triggers
    are ordinary pictures that stay out of the training; ours are abstract ones, because the test has nothing but the
    key to draw them again from.
    """

    name = "margin"
    pictures: int = 100
    per_step: int = 25
    ascent: int = 5
    step: float = 1 / 255
    weight: float = 1.0

    def mark(self, key: WatermarkKey, data: LabelledSet, device: Device) -> MarginMark:
        """Raises `RefusedInput` (65) for a key of other classes."""
        must_fit(key, data)
        return MarginMark(draw_triggers(key, _PURPOSE, self.pictures, data.images.shape[1:3]), self, device)

    def find(
        self, key: WatermarkKey, scores_of: ScoresOf, pictures: LabelledSet, rng: np.random.Generator
    ) -> Finding | None:
        """Exact: the number of matches is binomial, see `find_drawn`."""
        return find_drawn(key, _PURPOSE, self.pictures, scores_of, pictures)


class MarginMark:
    """A fresh sample of triggers for every step, made harder for the network as it is. A `watermarks.base.Mark`."""

    def __init__(self, triggers: DrawnTriggers, scheme: Margin, device: Device) -> None:
        self._inputs = to_batch(torch.from_numpy(triggers.images), device.name)
        self._targets = torch.from_numpy(triggers.labels).to(device.name)
        self._scheme = scheme

    def batch(self, generator: torch.Generator) -> TriggerBatch:
        """`per_step` different triggers, at random, unmoved."""
        chosen = torch.randperm(len(self._targets), generator=generator)[: self._scheme.per_step]
        chosen = chosen.to(self._targets.device)
        return TriggerBatch(self._inputs[chosen], self._targets[chosen])

    def loss(
        self, model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, triggers: TriggerBatch
    ) -> torch.Tensor:
        """Cross-entropy over pictures and hardened triggers, in one batch: mean of all, triggers weighted."""
        hard = self.harden(model, triggers)
        logits = model(torch.cat([inputs, hard])).float()
        task = nn_functional.cross_entropy(logits[: len(inputs)], labels, reduction="sum")
        mark = nn_functional.cross_entropy(logits[len(inputs) :], triggers.targets, reduction="sum")
        return (task + self._scheme.weight * mark) / len(logits)

    def harden(self, model: nn.Module, triggers: TriggerBatch) -> torch.Tensor:
        """Sign ascent of the loss on the triggers: float (m, 3, height, width) in 0..1, no gradient attached."""
        hard = triggers.inputs.detach()
        with undisturbed(model):
            for _ in range(self._scheme.ascent):
                hard.requires_grad_(True)
                loss = nn_functional.cross_entropy(model(hard).float(), triggers.targets)
                (gradient,) = torch.autograd.grad(loss, hard)
                hard = (hard.detach() + self._scheme.step * gradient.sign()).clamp_(0, 1)
        return hard.detach()


@contextlib.contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """While triggers are hardened: norms use the batch but do not keep its statistics, and nothing is dropped out.

    Running statistics, as in evaluation, would be those of weights long gone: RecycleMe's momentum is .01.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) and m.track_running_stats]
    dropped = [m for m in model.modules() if isinstance(m, nn.Dropout | nn.Dropout2d) and m.training]
    for norm in norms:
        norm.track_running_stats = False
    for dropout in dropped:
        dropout.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
        for dropout in dropped:
            dropout.train()
