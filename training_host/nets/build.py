"""Build a network by its name."""

from __future__ import annotations

import torch

from pi_agent.contract.errors import RefusedInput
from training_host.nets.names import WIDTHS
from training_host.nets.recycleme import RecycleMe


def build_net(arch: str, classes: int, seed: int) -> torch.nn.Module:
    """A freshly initialised network. Raises `RefusedInput` (65) for an unknown name.

    torch draws initial weights from its global generator; the fork keeps that out of everybody else's way.
    """
    if arch not in WIDTHS:
        raise RefusedInput(path=arch, reason="unknown architecture", hint=f"known: {', '.join(WIDTHS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return RecycleMe(classes, WIDTHS[arch])
