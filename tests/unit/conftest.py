"""What several files of unit tests train with. Imports wait: no Pi has torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from torch import nn


@pytest.fixture(scope="module")
def quick_network() -> Iterator[None]:
    """Both programs know `GLANCE` while the file's tests run."""
    from tests.support_nets import glance_known

    with glance_known():
        yield


@pytest.fixture(scope="module")
def own(quick_network: None) -> list[nn.Module]:
    """Two networks of the same pictures, each with its own seed."""
    from tests.support_nets import CPU, GLANCE, coloured_set
    from training_host.training.loop import Recipe
    from training_host.training.supervised import train_classifier

    return [train_classifier(GLANCE, coloured_set(120, 2), Recipe(6, batch=20, seed=seed), CPU) for seed in (1, 2)]
