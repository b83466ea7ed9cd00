"""Which hardware trains, and in which arithmetic."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import nn

_CPU_FLAGS = ("avx512_bf16", "amx_bf16", " bf16")  # the last is ARM's spelling
"""Without one of these bf16 is emulated and many times slower than fp32, not faster."""


@dataclass(frozen=True)
class Device:
    """A torch device and whether autocast to bfloat16 pays there."""

    name: str
    bf16: bool

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """bfloat16 autocast where it pays, else nothing."""
        return torch.autocast(self.name, torch.bfloat16) if self.bf16 else contextlib.nullcontext()

    def place(self, model: nn.Module) -> nn.Module:
        """Move `model` here, in the memory layout that convolutions like best."""
        placed: nn.Module = model.to(self.name).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return placed

    def describe(self) -> str:
        """For manifests and tables."""
        return f"{self.name} {'bf16' if self.bf16 else 'fp32'}"


@cache
def best_device() -> Device:
    """The GPU if there is one, else the CPU."""
    if torch.cuda.is_available():
        return Device("cuda", torch.cuda.is_bf16_supported())
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        flags = ""
    return Device("cpu", any(flag in flags for flag in _CPU_FLAGS))
