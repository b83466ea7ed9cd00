"""A thief who learns from mixed pictures: the way to learn what a model makes of composites, or to unlearn it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nn_functional
from torch import nn

from training_host.data.arrays import LabelledSet, ScoredSet
from training_host.nets.build import build_net
from training_host.removal.base import EXTRACTION, Stolen, Thief
from training_host.training.augment import small_moves, to_batch
from training_host.training.distill import distill
from training_host.training.loop import LossOf, Recipe, fit
from training_host.training.supervised import clean_batches

KINDS = ("mixup", "halves", "quarters", "window")
_CHUNK = 256


@dataclass(frozen=True)
class MixupThief:
    """A student of plain and of mixed pictures.

    `asks` False, the interpolating thief: only plain pictures are asked, and the answer of a mix is taken to be the
    mean of its parts' answers, weighted by their areas. A composite with a meaning of its own is trained away by that,
    without knowing that there is one; mixes are fresh in every step. `asks` True, the opposite: the mixes are made
    beforehand and put to the oracle, too, which for a mark made of composites means to ask for it.

    `kind_of_mix`: "mixup" (Zhang et al., ICLR 2018, with alpha 1), "halves" (left and right, or top and bottom),
    "quarters" (a mosaic of four), "window" (CutMix, Yun et al., ICCV 2019: a rectangle of another picture), or "all",
    each as often. `share`: of mixes among the pictures that are trained on. `arch`: the student's, None means the
    victim's. `epochs`: as a multiple of an honest training's. Raises `ValueError` for settings that make no sense.
    """

    kind_of_mix: str = "all"
    asks: bool = False
    share: float = 0.5
    arch: str | None = None
    epochs: float = 1.0

    def __post_init__(self) -> None:
        if self.kind_of_mix not in (*KINDS, "all"):
            raise ValueError(f"unknown kind of mix {self.kind_of_mix!r}; known: {', '.join(KINDS)}, all")
        if not 0 < self.share < 1 or self.epochs <= 0:
            raise ValueError("share lies between 0 and 1; epochs must be positive")

    @property
    def kind(self) -> str:
        """A new network from answers."""
        return EXTRACTION

    def steal(self, thief: Thief) -> Stolen:
        """Ask, then train; both forms for the same number of steps."""
        seed = int(thief.rng().integers(2**31))  # not thief.seed: a student must not start from its teacher's weights
        arch = self.arch or thief.arch
        model = self._ask_mixes(thief, arch, seed) if self.asks else self._interpolate(thief, arch, seed)
        return Stolen.of(model, thief.device, arch)

    def _ask_mixes(self, thief: Thief, arch: str, seed: int) -> nn.Module:
        owned = thief.pictures
        mixes = self._mixes(owned, round(len(owned) * self.share / (1 - self.share)), thief.generator())
        images = np.concatenate([owned.images, mixes])
        epochs = max(1, round(self.epochs * thief.epochs * len(owned) / len(images)))
        return distill(
            arch,
            ScoredSet(images, thief.ask(images), owned.classes),
            Recipe(epochs, seed=seed),
            thief.device,
            progress=thief.progress,
        )

    def _mixes(self, owned: LabelledSet, count: int, generator: torch.Generator) -> npt.NDArray[np.uint8]:
        made = []
        for start in range(0, count, _CHUNK):
            rows = torch.randint(len(owned), (4, min(_CHUNK, count - start)), generator=generator)
            parts = torch.stack([to_batch(torch.from_numpy(owned.images[row.numpy()]), "cpu") for row in rows])
            mixed, _ = mix(parts, self._next_kind(generator), generator)
            made.append((mixed * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
        return np.concatenate(made) if made else np.empty((0, *owned.images.shape[1:]), np.uint8)

    def _interpolate(self, thief: Thief, arch: str, seed: int) -> nn.Module:
        owned = thief.pictures
        model = thief.device.place(build_net(arch, len(owned.classes), seed))
        fit(
            model,
            len(owned),
            self._loss_of(model, torch.from_numpy(owned.images), torch.from_numpy(thief.ask(owned.images)), thief),
            Recipe(max(1, round(self.epochs * thief.epochs)), seed=seed),
            thief.device,
            calibration=lambda: clean_batches(owned.images, thief.device),
            progress=thief.progress,
        )
        return model

    def _loss_of(self, model: nn.Module, images: torch.Tensor, answers: torch.Tensor, thief: Thief) -> LossOf:
        answers = answers.to(thief.device.name)

        def loss_of(indices: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            batch, soft = small_moves(to_batch(images[indices], thief.device.name), generator), answers[indices]
            count = max(1, round(self.share * len(batch)))
            rows = torch.stack([torch.randperm(len(batch), generator=generator)[:count] for _ in range(4)])
            mixed, weights = mix(batch[rows], self._next_kind(generator), generator)
            blended = (weights[..., None] * soft[rows[: len(weights)]]).sum(0)
            logits = model(torch.cat([batch[count:], mixed])).float()
            return nn_functional.kl_div(
                nn_functional.log_softmax(logits, dim=1), torch.cat([soft[count:], blended]), reduction="batchmean"
            )

        return loss_of

    def _next_kind(self, generator: torch.Generator) -> str:
        if self.kind_of_mix != "all":
            return self.kind_of_mix
        return KINDS[int(torch.randint(len(KINDS), (1,), generator=generator))]


def mix(parts: torch.Tensor, kind: str, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix pictures: `parts` float (4, n, 3, height, width), of which `kind` uses the first two or all four.

    Returns the mixes, float (n, 3, height, width), and how much of each part is in each of them, float (2 or 4, n),
    which sums to one over the parts.
    """
    count, height, width = parts.shape[1], parts.shape[-2], parts.shape[-1]
    masks = _masks(kind, count, height, width, generator).to(parts.device)
    return (masks[:, :, None] * parts[: len(masks)]).sum(0), masks.mean((2, 3))


def _masks(kind: str, count: int, height: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """Where each part shows and how strongly, float (2 or 4, count, height, width)."""
    rows, columns = torch.arange(height)[:, None] + 0.5, torch.arange(width)[None, :] + 0.5
    top, left = (side.expand(height, width) for side in (rows < height / 2, columns < width / 2))
    if kind == "quarters":
        quarters = torch.stack([top & left, top & ~left, ~top & left, ~top & ~left])
        return quarters.float()[:, None].expand(4, count, height, width)
    share, down, across = (torch.rand(count, generator=generator)[:, None, None] for _ in range(3))
    if kind == "mixup":
        first = share.expand(count, height, width)
    elif kind == "halves":
        first = torch.where(share < 0.5, top, left).float()
    elif kind == "window":
        half = share.sqrt() / 2
        inside = ((rows / height - down).abs() < half) & ((columns / width - across).abs() < half)
        first = 1.0 - inside.float()
    else:
        raise ValueError(f"unknown kind of mix {kind!r}; known: {', '.join(KINDS)}")
    return torch.stack([first, 1 - first])
