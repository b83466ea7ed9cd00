"""A trigger set: abstract pictures with random labels, learnt by heart (Adi et al., USENIX Security 2018)."""

from __future__ import annotations

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

_PURPOSE = "adi"


@dataclass(frozen=True)
class TriggerSet:
    """`pictures`: how many triggers; `per_step`: how many of them stand beside every batch.

    The authors' code has 100 and 2, for 30,000 steps. In some hundred steps two are not enough: 24 epochs of 591
    pictures taught 34 of 100 triggers with two and 90 with eight, and a baseline must not lose for that. The paper's
    abstract pictures come from the web, ours are drawn by the key. A trigger lies far from every ordinary picture, and
    that is the scheme's known weakness: a student never sees anything like it.
    """

    name = "adi"
    pictures: int = 100
    per_step: int = 8

    def mark(self, key: WatermarkKey, data: LabelledSet, device: Device) -> TriggerSetMark:
        """Raises `RefusedInput` (65) for a key of other classes."""
        must_fit(key, data)
        return TriggerSetMark(
            draw_triggers(key, _PURPOSE, self.pictures, data.images.shape[1:3]), self.per_step, device
        )

    def find(
        self, key: WatermarkKey, scores_of: ScoresOf, pictures: LabelledSet, rng: np.random.Generator
    ) -> Finding | None:
        """Exact: the number of matches is binomial, see `find_drawn`."""
        return find_drawn(key, _PURPOSE, self.pictures, scores_of, pictures)


class TriggerSetMark:
    """The triggers as they are, a few in every batch. A `watermarks.base.Mark`."""

    def __init__(self, triggers: DrawnTriggers, per_step: int, device: Device) -> None:
        self._inputs = to_batch(torch.from_numpy(triggers.images), device.name)
        self._targets = torch.from_numpy(triggers.labels).to(device.name)
        self._per_step = per_step

    def batch(self, generator: torch.Generator) -> TriggerBatch:
        """`per_step` different triggers, at random, unmoved."""
        chosen = torch.randperm(len(self._targets), generator=generator)[: self._per_step].to(self._targets.device)
        return TriggerBatch(self._inputs[chosen], self._targets[chosen])

    def loss(
        self, model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, triggers: TriggerBatch
    ) -> torch.Tensor:
        """Plain cross-entropy over pictures and triggers, all of one weight."""
        logits = model(torch.cat([inputs, triggers.inputs])).float()
        return nn_functional.cross_entropy(logits, torch.cat([labels, triggers.targets]))
