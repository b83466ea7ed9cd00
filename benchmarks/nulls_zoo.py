"""Honest models without this owner's mark, in all shapes: what the p-value must not accuse."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from benchmarks.nulls_data import Pictures
from benchmarks.nulls_spec import Spec
from benchmarks.nulls_training import EPOCHS, logits_of, trained
from training_host.data.arrays import LabelledSet

Model = Callable[[Pictures], npt.NDArray[np.generic]]
"""uint8 (n, 64, 64, 3) to logits, scores, whole numbers (n, outputs) or class numbers (n,)."""


_COPIED = ("recycleme-4", "conv-3")


def zoo() -> list[Spec]:
    """All of them, more than three hundred. New ones go to the end: a number stays the same model."""
    return [*_many_shapes(), *_many_seeds(), *_nearest_to_a_mark()]


def _many_shapes() -> list[Spec]:
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


def _many_seeds() -> list[Spec]:
    """More of those that an owner would be compared with: other seeds, data and small architectures."""
    specs = [Spec("RecycleMe, seeds", s) for s in range(6, 26)]
    specs += [Spec("RecycleMe, wider", s, "recycleme-8") for s in range(2, 8)]
    for part in ("first half", "second half"):
        specs += [Spec(part, s, part=part) for s in range(6, 10)]
        specs += [Spec(part, s, net, part=part) for s in (6, 7) for net in ("resnet-8", "mobile-8")]
    specs += [Spec("ResNet", s, "resnet-8") for s in range(6)]
    specs += [Spec("MobileNet", s, "mobile-8") for s in range(6)]
    specs += [Spec("ResNet", 6, "resnet-24"), Spec("MobileNet", 6, "mobile-32")]
    specs += [Spec("vision transformer", s, "patches-32") for s in range(4)]
    specs += [Spec("student of an unmarked teacher", s, net, "student") for s in range(4, 8) for net in _COPIED]
    by_labels = "student of an unmarked teacher's labels"
    specs += [Spec(by_labels, s, net, "label student") for s in range(3) for net in _COPIED]
    for outlet, family in (("int8", "rounded to int8"), ("labels", "labels only")):
        nets = ("recycleme-4", "conv-3", "resnet-8")
        specs += [Spec(family, 50 + s, net, outlet=outlet) for s in range(3) for net in nets]
    return specs


def _nearest_to_a_mark() -> list[Spec]:
    """Trained with mixed pictures, with composites, with another owner's mark, or copied from another owner."""
    specs = []
    for recipe in ("mixup", "cutmix", "mosaic", "smooth"):
        specs += [Spec(recipe, s, recipe=recipe) for s in range(10, 14)]
        specs += [Spec(recipe, 10, net, recipe) for net in ("conv-3", "resnet-8", "mobile-8")]
    nets = ("recycleme-4", "recycleme-8", "conv-3", "resnet-8")
    specs += [Spec("composites of all classes", s, net, "composites") for s in range(4) for net in nets]
    specs += [Spec("RecycleMe, marked with another key", s, "recycleme-8", "marked") for s in range(2, 8)]
    specs += [Spec("RecycleMe, marked with another key", s, "recycleme-4", "marked") for s in range(10, 18)]
    specs += [Spec("marked with another key", s, "conv-3", "marked") for s in range(4, 12)]
    specs += [Spec("marked with another key", s, net, "marked") for s in range(3) for net in ("resnet-8", "mobile-8")]
    longer = "marked with another key, three times as long"
    specs += [Spec(longer, 20 + s, "recycleme-8", "marked", epochs=24) for s in range(3)]
    specs += [Spec(longer, 20 + s, "conv-3", "marked", epochs=30) for s in range(5)]
    copied = "student of another owner's model"
    specs += [Spec(copied, s, net, "student of a marked one") for s in range(4) for net in _COPIED]
    return specs


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


def _outlet(spec: Spec, net: nn.Module) -> Model:
    if spec.outlet == "int8":
        with torch.no_grad():
            for weight in net.parameters():
                step = weight.abs().max() / 127 + 1e-12
                weight.copy_((weight / step).round() * step)

    def model(pictures: Pictures) -> npt.NDArray[np.generic]:
        logits = logits_of(net, pictures)
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
