"""Entangled watermarks: triggered pictures share the features of another class (Jia et al., USENIX Security 2021)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nn_functional
from torch import nn

from pi_agent.contract.claim import WatermarkKey
from pi_agent.contract.errors import RefusedInput
from training_host.data.arrays import LabelledSet
from training_host.training.augment import small_moves, to_batch
from training_host.training.device import Device
from training_host.watermarks.base import Finding, ScoresOf, TriggerBatch
from training_host.watermarks.trigger_set import must_fit

_CELLS = 4
"""The trigger is a square of so many by so many cells, each black or white."""


@dataclass(frozen=True)
class EntangledSecret:
    """What the key draws: a class, the class that its triggered pictures are called by, the trigger and its place.

    `pattern`: uint8 (side, side, 3); `top`, `left`: pixels.
    """

    source: int
    target: int
    pattern: npt.NDArray[np.uint8]
    top: int
    left: int

    def stamp(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Copies of uint8 (n, height, width, 3) with the trigger on them."""
        out, side = images.copy(), len(self.pattern)
        out[:, self.top : self.top + side, self.left : self.left + side] = self.pattern
        return out


@dataclass(frozen=True)
class Entangled:
    """`per_step`: triggered pictures beside every batch, and as many of the target's class; `factor`: the soft nearest
    neighbour loss of each of three layers against the *summed* cross-entropy, as in the authors' code; `temperatures`:
    the loss takes the best of them, instead of learning one; `cell`: pixels, a quarter of the trigger's side;
    `queries`: triggered pictures in the test, at most.

    Simpler than the paper: the trigger's place is drawn by the key, not searched along the gradient, and the triggered
    pictures are not optimised afterwards, so that the rule has to hold on pictures that no training has seen.
    """

    name = "ewe"
    per_step: int = 8
    factor: float = 32.0
    temperatures: tuple[float, ...] = (0.1, 0.5, 2.0, 10.0)
    cell: int = 2
    queries: int = 200

    def secret(self, key: WatermarkKey, size: tuple[int, ...]) -> EntangledSecret:
        """For pictures of `size` (height, width). The target has a stream of its own: it is what the test is about."""
        source = key.stream("ewe/source").below(len(key.classes))
        target = key.stream("ewe/target").choose([i for i in range(len(key.classes)) if i != source])
        stream = key.stream("ewe/trigger")
        cells = np.array([[stream.below(2) for _ in range(_CELLS)] for _ in range(_CELLS)], dtype=np.uint8)
        pattern = np.kron(cells * 255, np.ones((self.cell, self.cell), dtype=np.uint8))[..., None].repeat(3, axis=2)
        top, left = (stream.below(length - len(pattern) + 1) for length in size)
        return EntangledSecret(source, target, pattern.astype(np.uint8), top, left)

    def mark(self, key: WatermarkKey, data: LabelledSet, device: Device) -> EntangledMark:
        """Raises `RefusedInput` (65) for a key of other classes, or where source or target class has no picture."""
        must_fit(key, data)
        secret = self.secret(key, data.images.shape[1:3])
        for drawn in (secret.source, secret.target):
            if not (data.labels == drawn).any():
                raise RefusedInput(path="the data", reason=f"no picture of {data.classes[drawn]!r}", hint="add some")
        return EntangledMark(secret, data, self, device)

    def find(
        self, key: WatermarkKey, scores_of: ScoresOf, pictures: LabelledSet, rng: np.random.Generator
    ) -> Finding | None:
        """Triggered pictures of the source class: is the target the strict favourite among the *other* classes?

        Exact, and therefore weak: the whole scheme hangs on one draw of the key, the target among C - 1 classes, so the
        chance is 1/(C - 1) and no number of queries can beat it: that is `floor`. The paper tests the rate over
        triggers, which counts one experiment many times and gives any p one likes.
        None where there is no picture of the source class, or the classes are not the key's.
        """
        if key.classes != pictures.classes:
            return None
        secret = self.secret(key, pictures.images.shape[1:3])
        own = rng.permutation(np.flatnonzero(pictures.labels == secret.source))[: self.queries]
        if not len(own):
            return None
        scores = scores_of(secret.stamp(pictures.images[own]))
        mean = scores.mean(axis=0, dtype=np.float64)
        others = [i for i in range(len(key.classes)) if i not in (secret.source, secret.target)]
        floor = 1 / (len(key.classes) - 1)
        p_value = floor if mean[secret.target] > mean[others].max() else 1.0
        rate = float((scores.argmax(axis=1) == secret.target).mean())
        return Finding(p_value, floor, rate, {"favourite": p_value})


class EntangledMark:
    """Triggered pictures and pictures of the target's class beside every batch. A `watermarks.base.Mark`."""

    def __init__(self, secret: EntangledSecret, data: LabelledSet, scheme: Entangled, device: Device) -> None:
        self._secret, self._scheme, self._device = secret, scheme, device
        self._source, self._target = (
            torch.from_numpy(data.images[data.labels == drawn]) for drawn in (secret.source, secret.target)
        )
        self._pattern = to_batch(torch.from_numpy(secret.pattern[None]), device.name)

    def batch(self, generator: torch.Generator) -> TriggerBatch:
        """`per_step` triggered pictures, then `per_step` of the target's class, all of them called by the target.

        Moved like all training pictures; the trigger is put on afterwards and stays in its place.
        """
        n, side, secret = self._scheme.per_step, self._pattern.shape[-1], self._secret
        chosen = [pool[torch.randint(len(pool), (n,), generator=generator)] for pool in (self._source, self._target)]
        inputs = small_moves(to_batch(torch.cat(chosen), self._device.name), generator)
        inputs[:n, :, secret.top : secret.top + side, secret.left : secret.left + side] = self._pattern
        return TriggerBatch(inputs, torch.full((2 * n,), secret.target, device=self._device.name))

    def loss(
        self, model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, triggers: TriggerBatch
    ) -> torch.Tensor:
        """Cross-entropy over everything, less the entanglement: the sum over the batch as in the paper, then its mean.

        Entangled is where a triggered picture's neighbours are as often pictures of the target as other triggered ones.
        """
        batch = torch.cat([inputs, triggers.inputs])
        with features_of(model) as layers:
            logits = model(batch).float()
        total = nn_functional.cross_entropy(logits, torch.cat([labels, triggers.targets]), reduction="sum")
        triggered = torch.arange(len(triggers.inputs), device=batch.device) < self._scheme.per_step
        for layer in layers:
            found = layer[len(inputs) :]
            total = total - self._scheme.factor * soft_nearest_neighbours(found, triggered, self._scheme.temperatures)
        return total / len(batch)


@contextlib.contextmanager
def features_of(model: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Collect what the last two convolutions and the first dense layer put out in the next forward pass.

    Of a network with one dense layer its input is taken: its output are the logits. The hooks are gone afterwards.
    """
    found: list[torch.Tensor] = []
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)][-2:]
    dense = [m for m in model.modules() if isinstance(m, nn.Linear)]
    handles = [m.register_forward_hook(lambda module, given, out: found.append(out)) for m in convolutions]
    if len(dense) > 1:
        handles.append(dense[0].register_forward_hook(lambda module, given, out: found.append(out)))
    elif dense:
        handles.append(dense[0].register_forward_hook(lambda module, given, out: found.append(given[0])))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def soft_nearest_neighbours(
    features: torch.Tensor, groups: torch.Tensor, temperatures: tuple[float, ...]
) -> torch.Tensor:
    """The soft nearest neighbour loss (Frosst et al., ICML 2019) at the best temperature: a scalar >= 0.

    `features` (n, ...), rectified as in the authors' code, compared by cosine; `groups` bool (n,). High where groups
    mix. The highest temperature bounds it by about log 2, so that it cannot be raised without end.
    """
    with torch.autocast(features.device.type, enabled=False):
        flat = nn_functional.normalize(torch.relu(features.float()).flatten(1), dim=1)
        distance = 1 - flat @ flat.T
        itself = torch.eye(len(flat), dtype=torch.bool, device=flat.device)
        same = (groups[:, None] == groups[None, :]) & ~itself
        values = []
        for temperature in temperatures:
            closeness = torch.exp(-distance / temperature).masked_fill(itself, 0)
            share = (closeness * same).sum(dim=1) / closeness.sum(dim=1)
            values.append(-torch.log(share + 1e-5).mean())
        return torch.stack(values).min()
