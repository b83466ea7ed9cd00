"""Networks of one's own beside a transfer set: opened, tried, and corrected by the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from pi_agent.contract.manifest import load_manifest
from training_host.artifacts import open_network
from training_host.data.arrays import ScoredSet
from training_host.training.committee import committee
from training_host.training.device import Device
from training_host.training.trial import Trial


@dataclass(frozen=True)
class Own:
    """Networks made from true labels, the hashes of their ONNX files, and what a trial said, if there was one."""

    networks: Sequence[nn.Module] = ()
    hashes: Sequence[str] = ()
    trial: Trial | None = None

    def after(self, trial: Trial) -> Own:
        """These networks where `trial` says that they are worth hearing, else none."""
        return replace(self, trial=trial) if trial.heard else Own(trial=trial)

    def corrected(self, answers: ScoredSet, device: Device) -> Own:
        """The networks as one that has heard the answers, where these tell enough; see `committee()`."""
        return replace(self, networks=committee(self.networks, answers, device))


def open_own(folders: Sequence[Path], arch: str, classes: tuple[str, ...]) -> Own:
    """The networks of model folders. Raises `RefusedModel` (65) where one is of another architecture or classes."""
    networks = [open_network(folder, arch, classes) for folder in folders]
    return Own(networks, [load_manifest(folder).onnx_sha256 for folder in folders])
