"""Are networks of one's own worth hearing? A trial on answers set aside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from pi_agent.contract.metrics import mean_l2
from training_host.data.arrays import ScoredSet
from training_host.data.unasked import Extras
from training_host.nets.build import build_net
from training_host.training.committee import committee
from training_host.training.completed import geometric_mean
from training_host.training.device import Device
from training_host.training.distill import LEAST_STEPS, distill, identity_of, moves_for
from training_host.training.evaluate import predict
from training_host.training.kept import Kept
from training_host.training.loop import EpochReport, Recipe
from training_host.training.teaching import Teaching, loss_for

LEAST = 100
"""With fewer answers there is no trial: what is set aside would say little, and own networks help most."""
_ASIDE = 5
"""One of so many answers is set aside."""
_STUDENT = "trial"


@dataclass(frozen=True)
class Trial:
    """Mean L2 to so many answers set aside (`aside`), of own networks corrected by the other answers (`own`) and of a
    student that heard these answers alone (`alone`)."""

    aside: int
    own: float
    alone: float

    @property
    def heard(self) -> bool:
        """Whether own networks know more of what was not asked than a student does."""
        return self.own <= self.alone


def trial_epochs(answers: int) -> int:
    """How long a trial of so many answers trains its student, where nobody says it: as long as the recipe with few
    answers, and no longer with many."""
    return -(-LEAST_STEPS // max(1, (answers - answers // _ASIDE) // Recipe.batch))


def try_own(
    arch: str,
    answers: ScoredSet,
    own: Sequence[nn.Module],
    recipe: Recipe,
    device: Device,
    *,
    extras: Extras | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[EpochReport], None] = lambda report: None,
) -> Trial:
    """The trial of `own`, networks of `arch` as they were trained from true labels; at least `LEAST` answers.

    Networks that are made like a victim are nearer to it than any student of few answers; those of a task that the
    victim answers in its own way, because it is marked, say, do harm (ADR 15). Only the answers can tell. The pool
    of `extras` tells plain pictures from changed ones. Beside `checkpoint` the student is kept for the distillation
    that follows, which removes it. Raises `ValueError` for too few answers.
    """
    many = len(answers.images)
    if many < LEAST:
        raise ValueError(f"a trial needs {LEAST} answers")
    order = np.random.default_rng(many).permutation(many)
    aside, rest = (answers.take(np.sort(rows)) for rows in np.split(order, [many // _ASIDE]))
    extras = Extras(extras.pool if extras else None)
    teaching = Teaching(loss_for(answers.scores), moves_for(len(rest.images)))
    kept = Kept(checkpoint, identity_of(rest, extras, recipe, teaching), device)
    beside = checkpoint.with_stem(_STUDENT) if checkpoint else None
    learn = partial(
        distill, arch, rest, recipe, device, teaching=teaching, extras=extras, checkpoint=beside, progress=progress
    )
    student = kept.network(_STUDENT, build_net(arch, len(answers.classes), recipe.seed), learn)
    alone = predict(student, aside.images, device)
    together = geometric_mean([predict(network, aside.images, device) for network in committee(own, rest, device)])
    return Trial(len(aside.images), mean_l2(together, aside.scores), mean_l2(alone, aside.scores))
