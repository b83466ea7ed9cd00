"""Network architectures, by name. Every one maps float (n, 3, height, width) to logits (n, classes)."""

from __future__ import annotations

from collections.abc import Callable

import torch

from pi_agent.contract.errors import RefusedInput
from training_host.nets.recycleme import RecycleMe

ARCHITECTURES: dict[str, Callable[[int], torch.nn.Module]] = {
    "recycleme": lambda classes: RecycleMe(classes, width=64),
    "recycleme-narrow": lambda classes: RecycleMe(classes, width=16),
}


def build_net(arch: str, classes: int, seed: int) -> torch.nn.Module:
    """A freshly initialised network. Raises `RefusedInput` (65) for an unknown name.

    torch draws initial weights from its global generator; the fork keeps that out of everybody else's way.
    """
    if arch not in ARCHITECTURES:
        raise RefusedInput(path=arch, reason="unknown architecture", hint=f"known: {', '.join(ARCHITECTURES)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ARCHITECTURES[arch](classes)
