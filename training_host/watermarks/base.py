"""What a watermark scheme adds to the training of its owner's model."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import nn


class TriggerBatch(NamedTuple):
    """`inputs` float (m, 3, height, width) and the class that each shall be given, int64 (m,)."""

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
