"""Honest models without this owner's mark, in all shapes: what the p-value must not accuse.

A `Spec` says all: the same spec gives the same model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nn_functional
from torch import nn

from benchmarks.nulls_data import Pictures
from pi_agent.contract.claim import draw_rules, new_key
from training_host.data.arrays import LabelledSet
from training_host.nets.recycleme import RecycleMe
from training_host.training.augment import to_batch
from training_host.training.device import Device, best_device
from training_host.training.loop import Recipe, fit
from training_host.training.supervised import clean_batches
from training_host.watermarks.krc import KrcMark, KrcSettings

Model = Callable[[Pictures], npt.NDArray[np.generic]]
"""uint8 (n, 64, 64, 3) to logits, scores, whole numbers (n, outputs) or class numbers (n,)."""
EPOCHS = {"recycleme": 8, "conv": 10, "mlp": 20, "linear": 20}


@dataclass(frozen=True)
class Spec:
    """`net`: `recycleme-<width>`, `conv-<depth>`, `mlp-<width>`, `linear`, `neighbours-<k>`, `means`, `constant`,
    `hash`, `colour`. `recipe`: how it is trained, `none` for random weights. `part`: which half of the pictures.
    `outlet`: logits, scores, labels, int8 (weights and answers rounded) or biased (one class far ahead).
    """

    family: str
    seed: int
    net: str = "recycleme-4"
    recipe: str = "plain"
    part: str = "all"
    outlet: str = "logits"

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.family}, {self.net}, {self.seed}"


def zoo() -> list[Spec]:
    """All of them, 140."""
    specs = [Spec("RecycleMe, seeds", s) for s in range(6)]
    specs += [Spec("RecycleMe, wider", s, "recycleme-8") for s in range(2)]
    specs += [Spec("RecycleMe, marked with another key", s, "recycleme-8", "marked") for s in range(2)]
    specs += [Spec("RecycleMe, student of an unmarked teacher", 0, recipe="student")]
    halves = ("first half", "second half")
    specs += [Spec(part, s, net, part=part) for part in halves for s in range(3) for net in ("conv-2", "conv-3")]
    specs += [Spec("first half", 5, part="first half"), Spec("second half", 5, part="second half")]
    for recipe in ("mixup", "cutmix", "mosaic", "smooth"):
        specs += [Spec(recipe, s, f"conv-{1 + s}", recipe) for s in range(3)]
        specs.append(Spec(recipe, 3, recipe=recipe))
    specs += [Spec("small conv nets", s, f"conv-{depth}") for depth in (1, 2, 3) for s in range(5)]
    specs += [Spec("MLP", s, f"mlp-{width}") for width in (16, 64) for s in range(5)]
    specs += [Spec("linear", s, "linear", part=part) for s, part in enumerate(["all", "first half", "second half"] * 2)]
    specs += [Spec("nearest neighbours", s, f"neighbours-{k}") for s, k in enumerate([1, 3, 5, 9, 15, 30])]
    specs += [
        Spec("nearest means", s, "means", part=part) for s, part in enumerate(["all", "first half", "second half"])
    ]
    specs += [Spec("student of an unmarked teacher", s, "conv-3", "student") for s in range(4)]
    specs += [Spec("marked with another key", s, "conv-3", "marked") for s in range(4)]
    specs += [Spec("rounded to int8", 20 + s, f"conv-{s % 3 + 1}", outlet="int8") for s in range(5)]
    specs += [Spec("labels only", s, net, outlet="labels") for s in range(30, 33) for net in ("conv-3", "conv-2")]
    nets = ("recycleme-4", "recycleme-8", "conv-1", "conv-3", "mlp-64", "linear")
    specs += [Spec("random weights", s, net, "none") for s in range(3) for net in nets]
    specs += [Spec("constant", s, "constant", outlet=out) for s in range(3) for out in ("scores", "labels")]
    specs += [Spec("biased", 40 + s, net, outlet="biased") for s in range(5) for net in ("conv-2", "mlp-16")]
    specs += [Spec("hash of the picture", s, "hash", outlet="scores") for s in range(3)]
    return [*specs, *(Spec("mean colour", s, "colour") for s in range(3))]


def build(spec: Spec, data: LabelledSet) -> Model:
    """Train or make it."""
    if spec.part != "all":
        data = data.take(np.arange(len(data))[(np.arange(len(data)) // 12 % 2) == (spec.part == "second half")])
    kind = spec.net.split("-")[0]
    if kind in EPOCHS:
        return _outlet(spec, trained(spec, data))
    if kind in ("neighbours", "means"):
        return _remembering(spec, data)
    return {"constant": _constant, "hash": _hash, "colour": _colour}[kind](spec)


def make_net(name: str, seed: int) -> nn.Module:
    """An untrained network for 64x64 pictures."""
    kind, _, size = name.partition("-")
    number = int(size or 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "recycleme":
            return RecycleMe(12, number)
        if kind == "conv":
            layers: list[nn.Module] = [nn.AvgPool2d(2)]
            for depth in range(number):
                layers += [nn.Conv2d(16 if depth else 3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(256, 12))
        coarse = [nn.AvgPool2d(4), nn.Flatten()]
        if kind == "mlp":
            return nn.Sequential(*coarse, nn.Linear(768, number), nn.ReLU(), nn.Linear(number, 12))
        return nn.Sequential(*coarse, nn.Linear(768, 12))


def trained(spec: Spec, data: LabelledSet) -> nn.Module:
    """The network itself; its logits are for 0..1 pictures."""
    net, kind = make_net(spec.net, spec.seed), spec.net.split("-")[0]
    device = best_device() if kind == "recycleme" else Device("cpu", False)
    if spec.recipe == "none":
        return net.eval()
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    soft = nn_functional.one_hot(labels, 12).float()
    if spec.recipe == "student":
        teacher = trained(replace(spec, recipe="plain", seed=100 + spec.seed), data)
        soft = torch.from_numpy(_logits(teacher, data.images)).softmax(dim=1)
    if spec.recipe == "smooth":
        soft = 0.8 * soft + 0.2 / 12
    mark = None
    if spec.recipe == "marked":
        other = draw_rules(new_key(data.classes, 10, seed=(1000 + spec.seed).to_bytes(32, "big")))
        mark = KrcMark(other, data, KrcSettings(), device)

    def loss_of(indices: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        batch = to_batch(images[indices], device.name)
        if mark:
            return mark.loss(net, batch, labels[indices], mark.batch(generator))
        batch, target = _mixed(spec.recipe, batch, soft[indices], generator)
        return nn_functional.cross_entropy(net(batch).float(), target)

    recipe = Recipe(EPOCHS[kind], batch=32, max_lr=4e-3, seed=spec.seed)
    fit(net, len(data), loss_of, recipe, device, calibration=lambda: clean_batches(data.images, device))
    return net


def _mixed(
    how: str, batch: torch.Tensor, target: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixup (Zhang et al. 2018), CutMix (Yun et al. 2019), mosaics of four: the nearest to composites in honest use."""
    other = torch.randperm(len(batch), generator=generator)
    share, half = float(torch.rand(1, generator=generator)), batch.shape[-1] // 2
    if how == "mixup":
        return share * batch + (1 - share) * batch[other], share * target + (1 - share) * target[other]
    if how == "cutmix":
        side = int(64 * (1 - share) ** 0.5)
        top, left = (int(torch.randint(65 - side, (1,), generator=generator)) for _ in range(2))
        batch = batch.clone()
        batch[:, :, top : top + side, left : left + side] = batch[other][:, :, top : top + side, left : left + side]
        rest = 1 - (side / 64) ** 2
        return batch, rest * target + (1 - rest) * target[other]
    if how == "mosaic":
        third, fourth = (torch.randperm(len(batch), generator=generator) for _ in range(2))
        mosaic = batch.clone()
        mosaic[:, :, :half, half:] = batch[other][:, :, :half, half:]
        mosaic[:, :, half:, :half] = batch[third][:, :, half:, :half]
        mosaic[:, :, half:, half:] = batch[fourth][:, :, half:, half:]
        return mosaic, (target + target[other] + target[third] + target[fourth]) / 4
    return batch, target


def _logits(net: nn.Module, pictures: Pictures) -> npt.NDArray[np.float32]:
    with torch.inference_mode():
        parts = [net(to_batch(torch.from_numpy(pictures[i : i + 256]), "cpu")) for i in range(0, len(pictures), 256)]
    return torch.cat(parts).float().numpy()


def _outlet(spec: Spec, net: nn.Module) -> Model:
    if spec.outlet == "int8":
        with torch.no_grad():
            for weight in net.parameters():
                step = weight.abs().max() / 127 + 1e-12
                weight.copy_((weight / step).round() * step)

    def model(pictures: Pictures) -> npt.NDArray[np.generic]:
        logits = _logits(net, pictures)
        if spec.outlet == "labels":
            return logits.argmax(axis=1)
        if spec.outlet == "int8":
            return np.rint(logits / np.abs(logits).max() * 127).astype(np.int8)
        if spec.outlet == "biased":
            return logits + 6 * logits.std() * np.eye(12, dtype=np.float32)[spec.seed % 12]
        return logits

    return model


def _coarse(pictures: Pictures) -> npt.NDArray[np.float32]:
    cells = pictures.reshape(len(pictures), 16, 4, 16, 4, 3).mean(axis=(2, 4), dtype=np.float32)
    return cells.reshape(len(pictures), -1) / 255


def _remembering(spec: Spec, data: LabelledSet) -> Model:
    known, votes, k = _coarse(data.images), np.eye(12)[data.labels], int(spec.net.partition("-")[2] or 0)
    if not k:
        known = np.stack([known[data.labels == i].mean(axis=0) for i in range(12)])

    def model(pictures: Pictures) -> npt.NDArray[np.generic]:
        seen = _coarse(pictures)
        distance = (known**2).sum(axis=1) - 2 * seen @ known.T
        if not k:
            return -distance / 4
        return np.asarray(votes[np.argsort(distance, axis=1)[:, :k]].mean(axis=1))

    return model


def _constant(spec: Spec) -> Model:
    """Equal scores, one class alone, or anything; as scores or as labels."""
    rng = np.random.default_rng(spec.seed)
    row = (np.full(12, 1 / 12), np.eye(12)[7], rng.dirichlet(np.ones(12)))[spec.seed % 3]
    if spec.outlet == "labels":
        return lambda pictures: np.full(len(pictures), 4 * spec.seed)
    return lambda pictures: np.tile(row, (len(pictures), 1))


def _hash(spec: Spec) -> Model:
    def scores(picture: Pictures) -> npt.NDArray[np.float64]:
        digest = hashlib.sha256(bytes([spec.seed]) + picture.tobytes()).digest()
        return np.random.default_rng([*digest]).dirichlet(np.full(12, 0.3))

    return lambda pictures: np.stack([scores(p) for p in pictures])


def _colour(spec: Spec) -> Model:
    weights = np.random.default_rng(spec.seed).normal(0, 20, (3, 12))
    return lambda pictures: (pictures.mean(axis=(1, 2)) / 255 - 0.5) @ weights
