"""What a pool gives to a distillation: more pictures of the task, and true labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.manifest import InputSpec
from training_host.data.pool import read_pool
from training_host.data.sources import Picture


@dataclass(frozen=True)
class Extras:
    """What an adversary may have beside the answers.

    `pool`: pictures of the task, asked or not, uint8 (m, height, width, 3). `labels`: their true classes, int64 (m,),
    -1 where unknown.
    """

    pool: npt.NDArray[np.uint8] | None = None
    labels: npt.NDArray[np.int64] | None = None


def extras_of(
    classes: tuple[str, ...],
    pictures: list[Picture],
    spec: InputSpec,
    *,
    needs_labels: bool = False,
    progress: Callable[[int], None] = lambda count: None,
) -> Extras:
    """The pictures of a pool, with their class folders as labels where these are named like the oracle's `classes`.

    Raises `RefusedInput` (65) where labels are needed and no picture has one.
    """
    if not pictures:
        return Extras()
    pool = read_pool(pictures, spec, progress)
    column = {name: i for i, name in enumerate(classes)}
    labels = np.array([column.get(picture.label, -1) for picture in pool.pictures], dtype=np.int64)
    if needs_labels and (labels < 0).all():
        reason = "none of its pictures lies in a folder named like a class of the answers"
        raise RefusedInput(path=pictures[0].name, reason=reason, hint=f"class folders: {', '.join(classes)}")
    return Extras(pool.images, labels if (labels >= 0).any() else None)
