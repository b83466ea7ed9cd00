"""Keyed cosine: a wave over the colour and light of an ordinary picture, in the scores of the classes it is not.

After CosWM (Charette et al., AAAI 2022, section 4), which adds one keyed cosine to the answers as they are served; a
thief of the file would leave that out. Here it is trained into the weights, as B small waves, each with a sign of its
own: the signs are what the exact test asks for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nn_functional
from torch import nn

from pi_agent.contract.claim import WatermarkKey
from pi_agent.contract.claim.key import KeyStream
from pi_agent.contract.claim.p_value import sum_tail
from training_host.data.arrays import LabelledSet
from training_host.training.augment import to_batch
from training_host.training.device import Device
from training_host.watermarks.base import Finding, ScoresOf, TriggerBatch
from training_host.watermarks.trigger_set import must_fit

FEATURES = 5
_BLOCKS = 4
_AXES = ((1 / 3, 1 / 3, 1 / 3), (1 / 3, -1 / 3, 0), (1 / 6, 1 / 6, -1 / 3))
"""Luminance, red against green, yellow against blue."""
_LEVEL, _SPREAD = 0.6, (0.1, 0.02, 0.02, 0.04, 0.04)
"""The mean luminance and the spread of every feature in ordinary photographs."""
_FLOOR = 1e-3
"""Added to scores before the logarithm, or the smallest ones would decide."""


class Waves(NamedTuple):
    """What the key draws. `directions` float32 (bits, `FEATURES`), length omega; `phases` float32 (bits,), radians;
    `patterns` float32 (bits, classes) of -1 and +1, half and half; `signs` float32 (bits,) of -1 and +1.
    """

    directions: torch.Tensor
    phases: torch.Tensor
    patterns: torch.Tensor
    signs: torch.Tensor

    def of(self, batch: torch.Tensor) -> torch.Tensor:
        """The waves of pictures, float (n, 3, height, width) in 0..1, without signs: float32 (n, bits) in -1..1."""
        with torch.autocast(batch.device.type, enabled=False):
            directions, phases = self.directions.to(batch.device), self.phases.to(batch.device)
            return torch.cos(features(batch) @ directions.T + phases)

    def leanings(self, batch: torch.Tensor) -> torch.Tensor:
        """All waves with their signs and patterns, float32 (n, classes), of variance about one half."""
        with torch.autocast(batch.device.type, enabled=False):
            signed = (self.signs[:, None] * self.patterns).to(batch.device)
            return self.of(batch) @ signed / math.sqrt(len(self.signs))


@dataclass(frozen=True)
class KeyedCosine:
    """`bits`: waves, each with a sign; `omega`: their frequency, in radians per spread of a feature; `amplitude`: how
    far they move the logits of the classes that a picture is not; `hint`: the share of every label that goes to those;
    `queries`: ordinary pictures in the test, at most.

    Measured on 1,630 photographs of six classes (quarter width, 24 epochs, one seed): the victim is found with
    p = 1e-5, its soft copy with 6e-5, for two points of accuracy: more than the hints of `krc` prove there, and less
    than a claim needs. So it is here to be compared with.
    """

    name = "cosine"
    bits: int = 24
    omega: float = 1.5
    amplitude: float = 4.0
    hint: float = 0.25
    queries: int = 320

    def waves(self, key: WatermarkKey) -> Waves:
        """The signs have a stream of their own: they are what the test is about, and depend on nothing else."""
        stream, signs = key.stream("cosine/waves"), key.stream("cosine/signs")
        classes = len(key.classes)
        directions = np.array([[_normal(stream) for _ in range(FEATURES)] for _ in range(self.bits)])
        directions *= self.omega / np.linalg.norm(directions, axis=1, keepdims=True)
        phases = np.array([stream.below(2**32) / 2**32 * 2 * np.pi for _ in range(self.bits)])
        patterns = []
        for _ in range(self.bits):
            pattern = [1.0 if i < classes // 2 else -1.0 for i in range(classes)]
            stream.shuffle(pattern)
            patterns.append(pattern)
        drawn = [2.0 * signs.below(2) - 1 for _ in range(self.bits)]
        parts = (directions, phases, np.array(patterns), np.array(drawn))
        return Waves(*(torch.from_numpy(part.astype(np.float32)) for part in parts))

    def mark(self, key: WatermarkKey, data: LabelledSet, device: Device) -> KeyedCosineMark:
        """Raises `RefusedInput` (65) for a key of other classes."""
        must_fit(key, data)
        return KeyedCosineMark(self.waves(key), data, self, device)

    def find(
        self, key: WatermarkKey, scores_of: ScoresOf, pictures: LabelledSet, rng: np.random.Generator
    ) -> Finding | None:
        """Ordinary pictures: do the scores of the classes that they are not move with the waves, as the signs say?

        Exact: every sign was drawn on its own, and neither the pictures nor the question depend on it, so all 2**bits
        assignments are alike likely and are counted (`sum_tail`). Small steps of many waves count, so p can be small
        where no single wave is certain. `rate` is the share of waves whose sign comes out right: one half by chance.
        None where the classes are not the key's, or no class has two pictures.
        """
        if key.classes != pictures.classes:
            return None
        chosen = _some_of_each(pictures, self.queries, rng)
        if not len(chosen):
            return None
        asked, waves = pictures.take(chosen), self.waves(key)
        contrasts = contrast(waves, asked, scores_of(asked.images))
        signs = waves.signs.numpy()
        chance = sum_tail([np.array([-c, c]) for c in contrasts], [int(sign > 0) for sign in signs])
        right = float((contrasts * signs > 0).mean())
        return Finding(float(chance), 2.0**-self.bits, right, {"waves": float(chance)})


class KeyedCosineMark:
    """Soft labels that move with the waves. A `watermarks.base.Mark`."""

    def __init__(self, waves: Waves, data: LabelledSet, scheme: KeyedCosine, device: Device) -> None:
        self._waves, self._scheme, self._device = waves, scheme, device
        self._images, self._labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)

    def batch(self, generator: torch.Generator) -> TriggerBatch:
        """None: the mark is in the labels of ordinary pictures."""
        nothing = to_batch(self._images[:0], self._device.name)
        return TriggerBatch(nothing, self._labels[:0].to(nothing.device))

    def loss(
        self, model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, triggers: TriggerBatch
    ) -> torch.Tensor:
        """Cross-entropy with labels that move with the waves."""
        return nn_functional.cross_entropy(model(inputs).float(), self.targets(inputs, labels))

    def targets(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """float32 (n, classes): 1 - `hint` for the true class, the rest shared by the others as the waves say."""
        leanings = self._waves.leanings(inputs) * self._scheme.amplitude
        truth = nn_functional.one_hot(labels, leanings.shape[1]).float()
        others = torch.softmax(leanings.masked_fill(truth > 0, -torch.inf), dim=1)
        return (1 - self._scheme.hint) * truth + self._scheme.hint * others


def features(batch: torch.Tensor) -> torch.Tensor:
    """float (n, 3, height, width) in 0..1 to float32 (n, `FEATURES`), about -2..2 for ordinary photographs.

    The means of luminance, red against green and yellow against blue; how much brighter the top is than the bottom;
    and how much one side is brighter than the other, without saying which: a mirrored picture has the same features,
    because trainings mirror, a thief's as well.
    """
    blocks = nn_functional.adaptive_avg_pool2d(batch.float(), _BLOCKS)
    axes = torch.einsum("ac,ncij->naij", blocks.new_tensor(_AXES), blocks)
    first = torch.cos(math.pi * (torch.arange(_BLOCKS, device=batch.device) + 0.5) / _BLOCKS) / _BLOCKS
    means, light = axes.mean(dim=(2, 3)), axes[:, 0]
    level = means - blocks.new_tensor((_LEVEL, 0, 0))
    slopes = torch.stack([light.mean(2) @ first, (light.mean(1) @ first).abs()], dim=1)
    return torch.cat([level, slopes], dim=1) / blocks.new_tensor(_SPREAD)


def contrast(waves: Waves, pictures: LabelledSet, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """For every wave, how the log scores move with it, signs left out: float64 (bits,).

    Only classes that a picture is not; centred in every picture and, within the pictures of a class, for every class
    asked about, so that neither what a picture is nor what a suspect likes to say counts.
    """
    waving = waves.of(to_batch(torch.from_numpy(pictures.images), "cpu")).double().numpy()
    patterns, total = waves.patterns.double().numpy(), np.zeros(len(waves.signs))
    for number in np.unique(pictures.labels):
        own = np.flatnonzero(pictures.labels == number)
        others = np.delete(np.arange(scores.shape[1]), number)
        logs = np.log(scores[np.ix_(own, others)].astype(np.float64) + _FLOOR)
        logs -= logs.mean(axis=1, keepdims=True)
        logs -= logs.mean(axis=0)
        total += np.einsum("nb,bc,nc->b", waving[own] - waving[own].mean(axis=0), patterns[:, others], logs)
    return total


def _some_of_each(pictures: LabelledSet, most: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Equally many random pictures of every class, where there are so many; none of a class with only one."""
    each = max(2, most // len(pictures.classes))
    pools = [np.flatnonzero(pictures.labels == number) for number in range(len(pictures.classes))]
    chosen = [rng.permutation(pool)[:each] for pool in pools if len(pool) > 1]
    return np.concatenate(chosen) if chosen else np.zeros(0, np.int64)


def _normal(stream: KeyStream) -> float:
    """One standard normal number (Box and Muller 1958), the same on every machine to the last digits."""
    one, other = ((stream.below(2**32) + 0.5) / 2**32 for _ in range(2))
    return math.sqrt(-2 * math.log(one)) * math.cos(2 * math.pi * other)
