"""The model that a suite attacks, and what it takes: the thief's networks of their own, the measuring of the result."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from torch import nn

from pi_agent import __version__
from pi_agent.contract.files import atomic_write, make_folder, read_limited, sha256_hex
from pi_agent.contract.metrics import accuracy
from pi_agent.contract.signed import canonical
from training_host.artifacts import MAX_MODEL_BYTES
from training_host.data.arrays import LabelledSet
from training_host.nets.build import build_net
from training_host.removal.base import Stolen, Thief
from training_host.training.device import Device
from training_host.training.loop import Recipe
from training_host.training.supervised import train_classifier
from training_host.watermarks.base import Finding, ScoresOf

_HONEST_SEEDS = 101
"""Added to the marked model's seed, so that no honest network starts where the marked one, or a thief, did."""


@dataclass(frozen=True)
class Subject:
    """One marked network and everything that its attacks and its judge need.

    `train`: what the thief owns, too; `held_out`: for accuracy and judgement only. `recipe`: the marked model's own.
    `judge`: the scheme's test; the only one here that knows the key. `rules`: how many it tests, 0 where the scheme has
    none. `made_of`: model, key and data by their hashes.
    """

    network: nn.Module
    arch: str
    train: LabelledSet
    held_out: LabelledSet
    judge: Callable[[ScoresOf], Finding]
    recipe: Recipe
    device: Device
    made_of: tuple[str, ...]
    rules: int = 0

    @property
    def identity(self) -> str:
        """What a result is valid for: model, key, data, recipe, device and this program's version."""
        return sha256_hex(canonical([*self.made_of, asdict(self.recipe), self.device.describe(), __version__]))

    def thief(self, seed: int, honest: Path) -> Thief:
        """A thief with this seed, whose own networks are kept in the folder `honest`."""
        return Thief(
            network=self.network,
            arch=self.arch,
            pictures=self.train,
            device=self.device,
            epochs=self.recipe.epochs,
            seed=self.recipe.seed + 1 + seed,
            honest=HonestNetworks(self, honest),
        )

    def measure(self, stolen: Stolen) -> dict[str, Any]:
        """Accuracy (0..1) on held-out pictures and the judge's finding.

        An attack may leave a network that answers with no numbers at all: its accuracy is that of guessing nothing, and
        there is no finding.
        """
        scores = stolen.scores_of(self.held_out.images)
        if not np.isfinite(scores).all():
            return {"accuracy": 0.0}
        found = self.judge(stolen.scores_of)
        counted = {} if found.hits is None else {"hits": found.hits, "rules": self.rules}
        return {
            "accuracy": accuracy(scores, self.held_out.labels),
            "p_value": found.p_value,
            "floor": found.floor,
            "channels": dict(found.channels),
            **counted,
            "wsr": found.rate,
        }


@dataclass(frozen=True)
class HonestNetworks:
    """Unmarked networks of the subject's recipe with other seeds, trained once for all attacks and processes."""

    subject: Subject
    folder: Path

    def __call__(self, index: int) -> nn.Module:
        """Network `index`, in eval mode; the caller may change it.

        Other processes that want the same one wait for the first; an interrupted training goes on.
        """
        subject = self.subject
        recipe = replace(subject.recipe, seed=subject.recipe.seed + _HONEST_SEEDS + index)
        path = make_folder(self.folder) / f"{subject.identity[:12]}-{index}.safetensors"
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # let go by the system, however this process ends
            if not path.exists():
                checkpoint = path.with_suffix(".pt")
                trained = train_classifier(
                    subject.arch, subject.train, recipe, subject.device, checkpoint=checkpoint
                ).to("cpu")
                with atomic_write(path) as stream:
                    stream.write(safetensors.torch.save({k: v.contiguous() for k, v in trained.state_dict().items()}))
        network = build_net(subject.arch, len(subject.train.classes), seed=0)
        network.load_state_dict(safetensors.torch.load(read_limited(path, MAX_MODEL_BYTES)))
        return subject.device.place(network).eval()


def digest_of(*parts: LabelledSet) -> str:
    """SHA-256 of pictures, labels and class names."""
    return sha256_hex(
        canonical([[sha256_hex(p.images.tobytes()), sha256_hex(p.labels.tobytes()), p.classes] for p in parts])
    )
