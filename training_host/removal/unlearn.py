"""Scheme-aware unlearning: the thief knows how the mark is made, and everything but the key.

A keyed rule says that composites of two classes, in one of three geometries, lean to a third class, and that ordinary
pictures of the two do so a little. Whoever does not know which classes trains all leanings away: composites of all
pairs of classes in all geometries are to be half the one and half the other, and nothing else.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as nn_functional

from pi_agent.contract.claim import compose
from pi_agent.contract.claim.composites import GEOMETRIES
from training_host.data.arrays import LabelledSet
from training_host.removal.base import MODIFICATION, Stolen, Thief
from training_host.training.augment import small_moves, to_batch
from training_host.training.loop import Recipe, fit
from training_host.training.supervised import clean_batches
from training_host.training.tuning import some_of

TARGETS = ("mixed", "flat")


@dataclass(frozen=True)
class Unlearn:
    """`targets`: what composites, and ordinary pictures, are to be called.

    - "mixed": half the one class and half the other; the true class for ordinary pictures.
    - "flat": the same, and among the classes that are neither, no one before another. The claim's test compares exactly
      these classes by the logarithms of their scores, so this asks for their logits to be equal, for every single
      picture (weight `evenness`), and gives them the share `rest` of the label, evenly.

    `weight`: composites against ordinary pictures; `per_step` of them beside 64 pictures. AdamW, one cycle up to `lr`
    for `epochs`, on a `share` (0..1] of the pictures. Raises `ValueError` for other targets.
    """

    targets: str = "flat"
    lr: float = 1e-3
    epochs: int = 10
    share: float = 1.0
    weight: float = 1.0
    rest: float = 0.2
    evenness: float = 0.5
    per_step: int = 64

    def __post_init__(self) -> None:
        if self.targets not in TARGETS or not 0 <= self.rest < 1:
            raise ValueError(f"targets are {' or '.join(TARGETS)} and the rest lies in [0, 1), not {self}")

    @property
    def kind(self) -> str:
        """`MODIFICATION`."""
        return MODIFICATION

    def steal(self, thief: Thief) -> Stolen:
        """The network, retrained against every rule that there could be."""
        network, device = copy.deepcopy(thief.network), thief.device
        data = some_of(thief.pictures, self.share, thief.rng())
        images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
        one_hot = torch.eye(len(data.classes))

        def loss_of(indices: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            ordinary = small_moves(to_batch(images[indices], device.name), generator)
            pairs = _pairs(data, self.per_step, generator)
            composites = to_batch(_composites(images.numpy(), pairs, generator), device.name)
            logits = network(torch.cat([ordinary, composites])).float()
            sources = torch.cat([one_hot[labels[indices]], one_hot[labels[pairs]].mean(dim=1)]).to(device.name)
            losses = self._losses(logits, sources)
            return losses[: len(ordinary)].mean() + self.weight * losses[len(ordinary) :].mean()

        recipe = Recipe(self.epochs, max_lr=self.lr, seed=thief.seed)
        fit(
            network,
            len(data),
            loss_of,
            recipe,
            device,
            calibration=lambda: clean_batches(data.images, device),
            progress=thief.progress,
        )
        return Stolen.of(network, device)

    def _losses(self, logits: torch.Tensor, sources: torch.Tensor) -> torch.Tensor:
        """Of every picture; `sources` float (n, classes): 1 for its class, .5 for each of the two of a composite."""
        if self.targets == "mixed":
            return nn_functional.cross_entropy(logits, sources, reduction="none")
        others = (sources == 0).float()
        others = others / others.sum(dim=1, keepdim=True).clamp(min=1)
        wanted = (1 - self.rest) * sources + self.rest * others
        among = torch.log_softmax(logits.masked_fill(sources > 0, -torch.inf), dim=1)
        uneven = -(among.masked_fill(sources > 0, 0.0) * others).sum(dim=1)
        return nn_functional.cross_entropy(logits, wanted, reduction="none") + self.evenness * uneven


def _pairs(data: LabelledSet, count: int, generator: torch.Generator) -> torch.Tensor:
    """Pictures of two different classes, all ordered pairs of classes alike: int64 (count, 2)."""
    pools = [torch.from_numpy(np.flatnonzero(data.labels == number)) for number in range(len(data.classes))]
    pools = [pool for pool in pools if len(pool)]
    first = torch.randint(len(pools), (count,), generator=generator)
    second = (first + torch.randint(1, max(2, len(pools)), (count,), generator=generator)) % len(pools)
    where = torch.rand(count, 2, generator=generator)
    rows = []
    for classes, places in zip(torch.stack([first, second], dim=1).tolist(), where.tolist(), strict=True):
        rows.append([int(pools[c][int(place * len(pools[c]))]) for c, place in zip(classes, places, strict=True)])
    return torch.tensor(rows)


def _composites(images: np.ndarray, pairs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Every pair in a geometry of the public menu, uint8 (n, height, width, 3)."""
    first, second = images[pairs[:, 0].numpy()], images[pairs[:, 1].numpy()]
    out = first.copy()
    which = torch.randint(len(GEOMETRIES), (len(pairs),), generator=generator).numpy()
    for number, geometry in enumerate(GEOMETRIES):
        chosen = which == number
        out[chosen] = compose(first[chosen], second[chosen], geometry)
    return torch.from_numpy(out)
