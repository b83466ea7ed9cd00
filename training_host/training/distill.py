"""Train a substitute from a transfer set: the student repeats the oracle's score vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from training_host.data.arrays import ScoredSet
from training_host.data.unasked import Extras
from training_host.nets.build import build_net
from training_host.training.device import Device
from training_host.training.kept import Kept
from training_host.training.lesson import Lesson
from training_host.training.loop import EpochReport, Recipe
from training_host.training.teaching import Teaching

Progress = Callable[[EpochReport], None]
LEAST_EPOCHS, LEAST_STEPS = 60, 2000
"""Few answers need many epochs: 500 of them gave -40 points after 420 steps and -9 after 1,400 (rendered pictures)."""

MANY = 5000
"""From so many answers on each is repeated seldom, and the student is better shown exactly what was asked."""


def distill(
    arch: str,
    data: ScoredSet,
    recipe: Recipe,
    device: Device,
    *,
    teaching: Teaching | None = None,
    extras: Extras | None = None,
    start: nn.Module | None = None,
    own: Sequence[nn.Module] = (),
    checkpoint: Path | None = None,
    progress: Progress = lambda report: None,
) -> nn.Module:
    """The student that `teaching` makes of the answers; see there for the parts of the recipe.

    `start`: a network of `arch` and these classes to go on from, itself unchanged, instead of a new one. `own`: such
    networks that did not come from the answers; with `teaching.echo` the student hears them as it hears students (see
    `completed()`, too). With `teaching.students` the progress reports of all trainings follow each other. Beside
    `checkpoint` finished networks are kept until all is done.
    """
    teaching, extras = teaching or Teaching(), extras or Extras()
    total = recipe.epochs * (teaching.students + 1)
    kept = Kept(checkpoint, identity_of(data, extras, recipe, teaching, [*([start] if start else []), *own]), device)
    students: list[nn.Module] = []
    alone = replace(teaching, echo=0.0)
    for number in range(teaching.students):
        ours, name = replace(recipe, seed=recipe.seed + 1000 * (number + 1)), f"student-{number}"
        report = _shifted(progress, number * recipe.epochs, total)
        learn = partial(Lesson(data, extras, alone, device).give, arch, ours, None, kept, name, report)
        students.append(kept.network(name, build_net(arch, len(data.classes), ours.seed), learn))
    heard = [*students, *(device.place(network).eval() for network in own)]
    lesson = Lesson(data, extras, teaching, device, heard)
    report = _shifted(progress, total - recipe.epochs, total)
    model = lesson.give(arch, recipe, start, kept, "last", report)
    kept.done()
    return model


def epochs_for(answers: int, batch: int = Recipe.batch) -> int:
    """How long to train with so many answers, where nobody says it."""
    return max(LEAST_EPOCHS, -(-LEAST_STEPS // max(1, answers // batch)))


def echo_for(answers: int) -> float:
    """How much networks of one's own count beside so many answers: beside many a student knows more than they do."""
    return 1.0 if answers < MANY else 0.0


def moves_for(answers: int) -> str:
    """`Teaching.moves` for so many answers."""
    return "all" if answers < MANY else "plain"


def steady_for(answers: int, *, echoing: bool = False) -> float:
    """`Teaching.steady` of a new network for so many answers: with few, mostly photos, noise in training helps."""
    return 0.6 if answers >= MANY else 0.3 if echoing else 0.0


def identity_of(
    data: ScoredSet, extras: Extras, recipe: Recipe, teaching: Teaching, networks: Sequence[nn.Module] = ()
) -> str:
    """What a training depends on: files of an interrupted one with another identity are not gone on with."""
    digest = hashlib.sha256(f"{recipe!r} {teaching!r}".encode())
    weights = (tensor.detach().cpu().numpy() for network in networks for tensor in network.state_dict().values())
    for array in (data.images, data.scores, data.weights, extras.pool, extras.labels, *weights):
        if array is not None:
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _shifted(progress: Progress, done: int, total: int) -> Progress:
    """Reports of one training as part of several."""
    return lambda report: progress(EpochReport(done + report.epoch, total, report.loss))
