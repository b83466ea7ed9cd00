"""Build a network by its name."""

from __future__ import annotations

from collections.abc import Callable

import torch

from pi_agent.contract.errors import RefusedInput
from training_host.nets.mobile import MobileSmall
from training_host.nets.names import WIDTHS
from training_host.nets.recycleme import RecycleMe
from training_host.nets.resnet import ResNetSmall

_OTHERS: dict[str, Callable[[int, int], torch.nn.Module]] = {"resnet-small": ResNetSmall, "mobile-small": MobileSmall}
"""What is no RecycleMe; every class is called with the number of classes and the width."""


def build_net(arch: str, classes: int, seed: int) -> torch.nn.Module:
    """A freshly initialised network. Raises `RefusedInput` (65) for an unknown name.

    torch draws initial weights from its global generator; the fork keeps that out of everybody else's way.
    """
    if arch not in WIDTHS:
        raise RefusedInput(path=arch, reason="unknown architecture", hint=f"known: {', '.join(WIDTHS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _OTHERS.get(arch, RecycleMe)(classes, WIDTHS[arch])
