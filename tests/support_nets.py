"""A network that learns in a tenth of the time, and pictures that it learns from in a few steps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from training_host.data.arrays import LabelledSet
from training_host.nets import build
from training_host.nets.names import WIDTHS
from training_host.nets.recycleme import RecycleMe
from training_host.training.device import Device

GLANCE = "recycleme-glance"
GLANCE_WIDTH = 16
CPU = Device("cpu", bf16=False)
CLASSES = ("a", "b", "c", "d")


class Glance(RecycleMe):
    """RecycleMe, layer by layer and name by name, whose first convolution looks at patches of 4x4 pixels.

    What follows has a sixteenth of the pixels, so a step takes a tenth of the narrow network's time.
    """

    def __init__(self, classes: int, width: int = GLANCE_WIDTH) -> None:
        super().__init__(classes, width)
        self.features[0] = nn.Conv2d(3, width, 4, stride=4, bias=False)
        self.head[0] = nn.Linear(2 * width * 2 * 2, 64)


def glance(classes: int = 4, seed: int = 0, width: int = GLANCE_WIDTH) -> Glance:
    """A fresh one; torch's global generator stays where it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Glance(classes, width)


@contextlib.contextmanager
def glance_known() -> Iterator[None]:
    """Inside, the programs know the architecture `GLANCE`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(WIDTHS, GLANCE, GLANCE_WIDTH)
        patch.setitem(build._OTHERS, GLANCE, Glance)
        yield


def coloured_set(count: int, seed: int) -> LabelledSet:
    """Noise around one colour per class: learnt in a few steps."""
    images, labels = coloured_noise(count, seed)
    return LabelledSet(images.copy(), labels.copy(), CLASSES, tuple(map(str, range(count))))


@cache
def coloured_noise(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count)
    centres = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [180, 180, 40]])
    images = np.clip(centres[labels][:, None, None, :] + rng.normal(0, 40, (count, 64, 64, 3)), 0, 255)
    return images.astype(np.uint8), labels.astype(np.int64)


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}
