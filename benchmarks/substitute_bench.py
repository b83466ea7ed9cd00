"""What the benchmark of substitutes trains and measures; importable, so that worker processes find it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.networks import ARCH, keep, open_network
from benchmarks.substitute_peers import PEERS
from pi_agent.contract.files import sha256_hex, write_json
from pi_agent.contract.metrics import agreement, mean_l2, mean_predictor
from training_host.attacks.base import Situation
from training_host.attacks.parts import sketch
from training_host.attacks.strategies import STRATEGIES
from training_host.attacks.students import NetworkStudent
from training_host.data.arrays import LabelledSet, ScoredSet
from training_host.data.unasked import Extras
from training_host.data.variants import derive, foreign
from training_host.nets.build import build_net
from training_host.removal.subject import digest_of
from training_host.training.committee import committee
from training_host.training.completed import completed
from training_host.training.device import best_device
from training_host.training.distill import distill, echo_for, moves_for, steady_for
from training_host.training.evaluate import predict
from training_host.training.loop import Recipe
from training_host.training.supervised import train_classifier
from training_host.training.teaching import Teaching

Images = npt.NDArray[np.uint8]
OTHERS = 600
OWN, REFERENCE = (3, 4, 200, 201), 100
"""Seeds of the adversary's own networks; victims are 0, 1, 2, and the other victims and one more are the references."""


@dataclass(frozen=True)
class Kind:
    """One way to a substitute: how the queries are chosen, which loss, whether own networks are heard, whether the rest
    is what `distill` does with so many answers or as plain as can be, and steps for 500, 2,000 and 10,000 queries
    (others in between)."""

    chosen: str
    loss: str = "kl"
    own: bool = False
    tuned: bool = False
    steps: tuple[int, int, int] = (1500, 2000, 2500)


_STEPS = (2000, 2600, 5000)
KINDS: Mapping[str, Kind] = {
    "magpie": Kind("magpie", "log-scores", own=True, tuned=True, steps=_STEPS),
    "plain KL": Kind("random"),
    "log-scores instead of KL": Kind("random", "log-scores"),
    "magpie, but random queries": Kind("random", "log-scores", own=True, tuned=True, steps=_STEPS),
    "magpie, but KL": Kind("magpie", own=True, tuned=True, steps=_STEPS),
    "magpie, but no own networks": Kind("magpie", "log-scores", tuned=True, steps=_STEPS),
    **{name: Kind("random", steps=(1000, 1000, 1000)) for name in PEERS},
}
"""The recipe, plain distillation, and the parts one by one: the ablation. Peers train in fp32, so a part as long."""


@dataclass(frozen=True)
class Bench:
    """One data set and where finished work lies."""

    name: str
    train: LabelledSet
    held_out: LabelledSet
    epochs: int
    work: Path

    def network(self, seed: int) -> nn.Module:
        """A victim (seeds 0, 1, ...) or a network that never saw it; trained once."""
        recipe, device = Recipe(self.epochs, seed=seed), best_device()
        identity = sha256_hex(f"{self.name} {recipe!r} {digest_of(self.train)}".encode())[:16]
        path = self.work / f"{self.name}-network-{seed}-{identity}.safetensors"
        keep(path, lambda kept: train_classifier(ARCH, self.train, recipe, device, checkpoint=kept))
        return open_network(path, len(self.train.classes))

    def sets(self) -> dict[str, Images]:
        """What is scored: held-out pictures, versions of them, and pictures of nothing in particular."""
        rng = np.random.default_rng(2)
        side = self.held_out.images.shape[1]
        return {
            "standard": self.held_out.images,
            "augmented": np.stack([derive(x, rng) for x in self.held_out.images]),
            "other": np.stack([foreign(side, rng) for _ in range(OTHERS)]),
        }

    def asked(self, chosen: str, budget: int, victim: int) -> Images:
        """What is asked: everything is chosen at once, before the first answer, by the adversary's own networks."""
        rng, device = np.random.default_rng([victim, budget]), best_device()
        if not budget:
            return self.train.images[:0]
        own = [NetworkStudent(self.network(seed), device) for seed in OWN] if chosen == "magpie" else []
        nothing = np.zeros(len(self.train), dtype=bool)
        situation = Situation(self.train.images, nothing, budget, rng, own, labels=self.train.labels)
        return sketch(STRATEGIES[chosen]().choose(situation), self.train.images)

    def substitute(self, kind: str, budget: int, victim: int) -> dict[str, Any]:
        """One student and its scores; from its file where it was made before."""
        path = self.place(kind, budget, victim)
        if not path.exists():
            torch.set_num_threads(1)
            images, owner = self.asked(KINDS[kind].chosen, budget, victim), self.network(victim)
            data = ScoredSet.empty(images.shape[1:3], self.train.classes)
            if budget:
                data = ScoredSet(images, predict(owner, images, best_device()), self.train.classes)
            began, busy = time.monotonic(), time.process_time()
            student = self._student(kind, data, owner, victim)
            spent = {"seconds": time.monotonic() - began, "cpu_seconds": time.process_time() - busy}
            found = {s: self.distance(student, owner, x) for s, x in self.sets().items()}
            write_json(path, {"kind": kind, "budget": budget, "victim": victim, **spent, "sets": found})
        return dict(json.loads(path.read_text()))

    def place(self, kind: str, budget: int, victim: int) -> Path:
        """Its file."""
        what = f"{self.name} {kind} {KINDS[kind]!r} {budget} {victim} {self.epochs} {digest_of(self.train)}"
        return self.work / f"{self.name}-{sha256_hex(what.encode())[:20]}.json"

    def _student(self, name: str, data: ScoredSet, owner: nn.Module, victim: int) -> nn.Module:
        kind, count, device = KINDS[name], len(data.images), best_device()
        own = committee([self.network(seed) for seed in OWN] if kind.own else [], data, device)
        data = completed(data, self.train.images, own, device)
        steps = np.interp(np.log(max(1, count)), np.log((500, 2000, 10_000)), kind.steps)
        epochs = max(1, round(float(steps) / max(1, len(data.images) // 64)))
        if name in PEERS:
            return PEERS[name](owner, data, build_net(ARCH, len(data.classes), 50 + victim), epochs)
        teaching, extras, recipe = Teaching(kind.loss), Extras(), Recipe(epochs, seed=50 + victim)
        if kind.tuned:
            echo = echo_for(count) if own else 0.0
            steady = steady_for(count, echoing=bool(echo))
            teaching = replace(teaching, moves=moves_for(count), steady=steady, echo=echo)
            extras = Extras(self.train.images)
        return distill(ARCH, data, recipe, device, teaching=teaching, extras=extras, own=own)

    def distance(self, model: nn.Module, owner: nn.Module, images: Images) -> dict[str, float]:
        """L2 and agreement of one network's scores with the victim's."""
        truth, copy = (predict(m, images, best_device()) for m in (owner, model))
        return {"l2": mean_l2(truth, copy), "agreement": agreement(truth, copy)}

    def references(self, victim: int, victims: int) -> dict[str, dict[str, Any]]:
        """Per set: the independent networks' L2, each and mean, and the mean predictor's."""
        owner, found = self.network(victim), {}
        others = [REFERENCE, *(seed for seed in range(victims) if seed != victim)]
        for name, images in self.sets().items():
            each = [self.distance(self.network(seed), owner, images) for seed in others]
            found[name] = {
                "each": each,
                "l2": float(np.mean([e["l2"] for e in each])),
                "agreement": float(np.mean([e["agreement"] for e in each])),
                "mean_predictor": mean_predictor(predict(owner, images, best_device())),
            }
        return found
