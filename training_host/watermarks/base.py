"""What the watermark schemes share: what one adds to its owner's training, and how it is found again in a suspect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from pi_agent.contract.claim import WatermarkKey
from training_host.data.arrays import LabelledSet
from training_host.training.device import Device

ScoresOf = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
"""A suspect as whoever judges it sees it: uint8 (n, height, width, 3) to scores (n, classes) that sum to one."""


class TriggerBatch(NamedTuple):
    """`inputs` float (m, 3, height, width) and what each shall be called.

    `targets`: a class each, int64 (m,), or a distribution each, float (m, classes).
    """

    inputs: torch.Tensor
    targets: torch.Tensor


class Mark(Protocol):
    """A mark that is embedded while the model is trained."""

    def batch(self, generator: torch.Generator) -> TriggerBatch:
        """Fresh triggers for one step."""
        ...

    def loss(
        self, model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, triggers: TriggerBatch
    ) -> torch.Tensor:
        """The whole loss of one step: task and mark."""
        ...


@dataclass(frozen=True)
class Finding:
    """What a scheme's own test says about a suspect.

    `p_value`: the chance that a model without this key's mark does as well; `floor`: the smallest that it could have
    been. `rate`: the share of single triggers that are called by their target (WSR in the literature), 0..1.
    `channels`: p-values of the single tests that went into `p_value`, by name. `hits`: rules obeyed, for schemes that
    have rules.
    """

    p_value: float
    floor: float
    rate: float
    channels: Mapping[str, float] = field(default_factory=dict)
    hits: int | None = None


class Scheme(Protocol):
    """One way to mark a model: a frozen dataclass whose fields are its hyper-parameters and whose repr is its identity.

    Everything secret is drawn from the key (`WatermarkKey.stream`, with the scheme's own purpose), so that the same key
    gives the same mark. `name` is a class attribute.
    """

    @property
    def name(self) -> str:
        """For tables and the registry."""
        ...

    def mark(self, key: WatermarkKey, data: LabelledSet, device: Device) -> Mark:
        """What is added to the training on `data`. Raises `RefusedInput` (65) where the data cannot carry it."""
        ...

    def find(
        self, key: WatermarkKey, scores_of: ScoresOf, pictures: LabelledSet, rng: np.random.Generator
    ) -> Finding | None:
        """Test a suspect with triggers made from `pictures` that no training has seen.

        None where the pictures do not suffice, as when a source class has none.
        """
        ...
