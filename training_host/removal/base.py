"""What the removal attacks share: what a thief has in hand, and what comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import nn

from training_host.data.arrays import LabelledSet
from training_host.training.device import Device
from training_host.training.evaluate import predict
from training_host.training.loop import EpochReport
from training_host.watermarks.base import ScoresOf

EXTRACTION, MODIFICATION, EVASION = "extraction", "modification", "evasion"
"""A new network from answers; the stolen network, changed; the stolen network as it is, inputs or answers changed."""


@dataclass(frozen=True)
class Thief:
    """Everything that a thief has.

    `network`: the marked one, in eval mode; an attack must not change it (`copy.deepcopy` first). Extraction asks it
    only through `ask`. `pictures`: the pictures that the thief owns, with true labels, uint8 (n, height, width, 3); the
    data set of a task is often public, so by default they are the owner's own training pictures. `epochs`: how long an
    honest training takes here, the measure for every schedule. `honest`: networks of the thief's own that carry no
    mark, same task, trained for the same time (for ensembles); made on demand, the same for all attacks. No attack ever
    gets the key; an attack that knows the *scheme* says so in its docstring.
    """

    network: nn.Module
    arch: str
    pictures: LabelledSet
    device: Device
    epochs: int
    seed: int
    honest: Callable[[int], nn.Module]
    progress: Callable[[EpochReport], None] = field(default=lambda report: None)

    def ask(self, images: np.ndarray) -> np.ndarray:
        """The oracle's full score vectors, float32 (n, classes)."""
        return predict(self.network, images, self.device)

    def rng(self) -> np.random.Generator:
        """For choices of pictures; a fresh one at every call, the same for the same seed."""
        return np.random.default_rng(self.seed)

    def generator(self) -> torch.Generator:
        """Likewise, for tensors."""
        return torch.Generator().manual_seed(self.seed)


@dataclass(frozen=True)
class Stolen:
    """What the thief serves: `scores_of`, and the network where there is one (an int8 file or a vote has none).

    A chain of attacks goes on from `network`. `arch` names its architecture where an attack chose it; None means the
    same as before the attack.
    """

    scores_of: ScoresOf
    network: nn.Module | None = None
    arch: str | None = None

    @classmethod
    def of(cls, network: nn.Module, device: Device, arch: str | None = None) -> Stolen:
        """A torch network that maps 0..1 pictures to logits."""
        return cls(lambda images: predict(network, images, device), network, arch)


class Removal(Protocol):
    """One attack: a frozen dataclass whose fields are its hyper-parameters and whose repr is its identity."""

    @property
    def kind(self) -> str:
        """`EXTRACTION`, `MODIFICATION` or `EVASION`."""
        ...

    def steal(self, thief: Thief) -> Stolen:
        """Do it. Deterministic for the same thief (seed) on the same machine."""
        ...
