"""Finished networks beside a checkpoint: an interrupted recipe of several trainings does not begin anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pi_agent.contract.files import atomic_write
from training_host.training.device import Device
from training_host.training.ranks import our_ranks


@dataclass
class Kept:
    """Networks named after `checkpoint`, until all is done; without a checkpoint nothing is kept.

    `identity`: of data and recipe; a file of another one is not used.
    """

    checkpoint: Path | None
    identity: str
    device: Device

    @property
    def running(self) -> Path | None:
        """Where the training that runs keeps its state: another place for other answers, whose state is not ours."""
        if self.checkpoint is None:
            return None
        return self.checkpoint.with_stem(f"{self.checkpoint.stem}-{self.identity[:12]}")

    def network(self, name: str, empty: nn.Module, learn: Callable[[], nn.Module]) -> nn.Module:
        """What an interrupted run had finished under this name, loaded into `empty`; else what `learn` returns."""
        if self.checkpoint is None:
            return learn()
        path = self.checkpoint.with_stem(f"{self.checkpoint.stem}-{name}")
        try:
            content = torch.load(path, weights_only=True, map_location="cpu")
            if content["of"] == self.identity:
                empty.load_state_dict(content["model"])
                return self.device.place(empty).eval()
        except Exception:
            pass  # none there, or damaged: it costs time, not correctness
        model = learn()
        if our_ranks().first:
            with atomic_write(path) as stream:
                torch.save({"of": self.identity, "model": model.state_dict()}, stream)
        return model

    def done(self) -> None:
        """Remove them all, those of an interrupted run included."""
        if self.checkpoint is not None:
            for path in self.checkpoint.parent.glob(f"{self.checkpoint.stem}-*{self.checkpoint.suffix}"):
                path.unlink(missing_ok=True)
