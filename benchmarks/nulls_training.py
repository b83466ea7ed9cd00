"""Train an honest network: small, on a few hundred rendered pictures, by one of the recipes that honest people use.

Recipes: `plain`; `mixup`, `cutmix`, `mosaic`; `composites`: plain pictures, and beside them composites of all classes
in all geometries with the labels of mixed pictures, as a mark has them where no rule speaks; `smooth`:
smoothed labels; `student` and `label student` of an unmarked teacher, by its scores or by its classes; `marked`: with
another owner's key; `student of a marked one`: of another owner's.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nn_functional
from torch import nn

from benchmarks.nulls_data import Pictures
from benchmarks.nulls_spec import Spec
from pi_agent.contract.claim import WatermarkKey, compose, new_key
from pi_agent.contract.claim.composites import GEOMETRIES
from training_host.data.arrays import LabelledSet
from training_host.nets.mobile import MobileSmall
from training_host.nets.recycleme import RecycleMe
from training_host.nets.resnet import ResNetSmall
from training_host.training.augment import to_batch
from training_host.training.device import Device
from training_host.training.loop import Recipe, fit
from training_host.training.supervised import clean_batches
from training_host.watermarks.krc import KrcSettings

EPOCHS = {"recycleme": 8, "resnet": 8, "mobile": 10, "patches": 12, "conv": 10, "mlp": 20, "linear": 20}
CPU = Device("cpu", False)
"""In full precision: for networks so narrow bf16 gains nothing, and results do not depend on the processor's flags."""
COMPOSITES, WEIGHT = 16, 0.5
"""Beside every batch of the recipe `composites`, and the weight of their loss."""
_OF_FIRST = {"left-right": 0.5, "top-bottom": 0.5, "centre": 0.6}
_STUDENTS = {"student": "plain", "label student": "plain", "student of a marked one": "marked"}


class Patches(nn.Module):
    """A tiny vision transformer (Dosovitskiy et al., ICLR 2021): 64 patches of 8 pixels, two layers, four heads.

    Input float32 (n, 3, 64, 64) in 0..1; output logits (n, classes).
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.cut = nn.Conv2d(3, width, 8, stride=8)
        self.place = nn.Parameter(torch.randn(64, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        tokens = self.cut(x).flatten(2).transpose(1, 2) + self.place
        logits: torch.Tensor = self.head(self.layers(tokens).mean(dim=1))
        return logits


def make_net(name: str, seed: int) -> nn.Module:
    """An untrained network for 64x64 pictures."""
    kind, _, size = name.partition("-")
    number = int(size or 0)
    known = {"recycleme": RecycleMe, "resnet": ResNetSmall, "mobile": MobileSmall, "patches": Patches}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind in known:
            return known[kind](12, number)
        if kind == "conv":
            layers: list[nn.Module] = [nn.AvgPool2d(2)]
            for depth in range(number):
                layers += [nn.Conv2d(16 if depth else 3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(256, 12))
        coarse = [nn.AvgPool2d(4), nn.Flatten()]
        if kind == "mlp":
            return nn.Sequential(*coarse, nn.Linear(768, number), nn.ReLU(), nn.Linear(number, 12))
        return nn.Sequential(*coarse, nn.Linear(768, 12))


def foreign_key(spec: Spec, classes: tuple[str, ...]) -> WatermarkKey | None:
    """The key of another owner that is in this model, or in its teacher; None where there is none."""
    if spec.recipe in _STUDENTS:
        return foreign_key(teacher_of(spec), classes)
    if spec.recipe != "marked":
        return None
    return new_key(classes, 10, seed=(1000 + spec.seed).to_bytes(32, "big"))


def teacher_of(student: Spec) -> Spec:
    """Another network of the same kind."""
    return replace(student, recipe=_STUDENTS[student.recipe], seed=100 + student.seed)


def trained(spec: Spec, data: LabelledSet) -> nn.Module:
    """The network itself; its logits are for 0..1 pictures."""
    net, kind = make_net(spec.net, spec.seed), spec.net.split("-")[0]
    if spec.recipe == "none":
        return net.eval()
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    soft = _labels(spec, data)
    key = foreign_key(spec, data.classes)
    mark = KrcSettings().mark(key, data, CPU) if key and spec.recipe == "marked" else None

    def loss_of(indices: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        batch = to_batch(images[indices], CPU.name)
        if mark:
            return mark.loss(net, batch, labels[indices], mark.batch(generator))
        if spec.recipe == "composites":
            more, targets = composites(data, soft, generator)
            logits = net(torch.cat([batch, more])).float()
            of_task = nn_functional.cross_entropy(logits[: len(batch)], soft[indices])
            return of_task + WEIGHT * nn_functional.cross_entropy(logits[len(batch) :], targets)
        batch, target = mixed(spec.recipe, batch, soft[indices], generator)
        return nn_functional.cross_entropy(net(batch).float(), target)

    recipe = Recipe(spec.epochs or EPOCHS[kind], batch=32, max_lr=4e-3, seed=spec.seed)
    fit(net, len(data), loss_of, recipe, CPU, calibration=lambda: clean_batches(data.images, CPU))
    return net


def _labels(spec: Spec, data: LabelledSet) -> torch.Tensor:
    """What every picture is called, float (n, 12)."""
    soft = nn_functional.one_hot(torch.from_numpy(data.labels), 12).float()
    if spec.recipe in _STUDENTS:
        answers = torch.from_numpy(logits_of(trained(teacher_of(spec), data), data.images))
        if spec.recipe == "label student":
            return nn_functional.one_hot(answers.argmax(dim=1), 12).float()
        return answers.softmax(dim=1)
    return 0.8 * soft + 0.2 / 12 if spec.recipe == "smooth" else soft


def composites(data: LabelledSet, soft: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """`COMPOSITES` of random pictures, float (n, 3, 64, 64), each with the labels of its two, float (n, 12)."""
    pairs = torch.randint(len(data), (COMPOSITES, 2), generator=generator).tolist()
    chosen = torch.randint(len(GEOMETRIES), (COMPOSITES,), generator=generator).tolist()
    pictures, targets = [], []
    for (first, second), geometry in zip(pairs, (GEOMETRIES[i] for i in chosen), strict=True):
        pictures.append(compose(data.images[first], data.images[second], geometry))
        part = _OF_FIRST[geometry]
        targets.append(part * soft[first] + (1 - part) * soft[second])
    return to_batch(torch.from_numpy(np.stack(pictures)), CPU.name), torch.stack(targets)


def mixed(
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


def logits_of(net: nn.Module, pictures: Pictures) -> npt.NDArray[np.float32]:
    """Logits, float32 (n, 12), of uint8 (n, 64, 64, 3)."""
    with torch.inference_mode():
        parts = [net(to_batch(torch.from_numpy(pictures[i : i + 256]), CPU.name)) for i in range(0, len(pictures), 256)]
    return torch.cat(parts).float().numpy()
