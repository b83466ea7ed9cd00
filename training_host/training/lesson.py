"""One training of a distillation: first roughly, then steadily, from answers, true labels and other students."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as nn_functional
from torch import nn

from training_host.data.arrays import ScoredSet
from training_host.data.dead_leaves import dead_leaves
from training_host.data.unasked import Extras
from training_host.nets.build import build_net
from training_host.nets.layers import without_dropout
from training_host.training.augment import recoloured, small_moves, to_batch
from training_host.training.average import running_average
from training_host.training.device import Device
from training_host.training.kept import Kept
from training_host.training.loop import EpochReport, Recipe, fit
from training_host.training.supervised import clean_batches
from training_host.training.teaching import Teaching, least_score, loss_to_scores, mixed_views

_RAMP = 0.3
"""The echo of the own average grows to its full weight in this share of the training: at first it knows nothing."""
_LEAVES, _LEAVES_SHARE = 1000, 0.1
"""Pictures of nothing among those that students talk about: an oracle is asked about other things, too."""
_STEADY_SEED, _STEADY_LR = 500_000, 0.5
"""The steady part has a seed of its own, so that its checkpoint is not taken for the rough one's; and half the rate."""


@dataclass
class Lesson:
    """What one student hears: the answers, and the echo of `others` or, without them, of its own running average."""

    data: ScoredSet
    extras: Extras
    teaching: Teaching
    device: Device
    others: Sequence[nn.Module] = ()
    _done: Callable[[float], float] = field(default=lambda share: share, init=False)
    _share: float = field(default=0.0, init=False)

    def give(
        self,
        arch: str,
        recipe: Recipe,
        start: nn.Module | None,
        kept: Kept,
        name: str,
        progress: Callable[[EpochReport], None],
    ) -> nn.Module:
        """The student: a new network, or one that goes on from `start`, which is only steadied and not changed.

        Roughly, batch norm uses the statistics of every batch, as in any training. Steadily, for the last
        `teaching.steady` of the epochs, it has those of natural pictures, dropout is off, and the running average of
        the weights is what comes out: then the student is trained as what it will be asked as, whatever else is in the
        batch (Beyer et al., CVPR 2022, section 3, ask for the same view; this is the same function).
        """
        rough, steady = self._epochs(recipe.epochs, start)

        def empty() -> nn.Module:
            return build_net(arch, len(self.data.classes), recipe.seed)

        def learn_roughly() -> nn.Module:
            own = Recipe(rough, recipe.batch, recipe.max_lr, recipe.weight_decay, recipe.seed)
            self._done = lambda share: share * rough / recipe.epochs
            return self._fit(empty(), own, kept, _part(progress, 0, recipe.epochs), steady=False)

        if start is None:
            model = kept.network(f"{name}-rough", empty(), learn_roughly) if steady else learn_roughly()
        else:
            model = copy.deepcopy(start)
        if not steady:
            return model
        own = Recipe(
            steady,
            recipe.batch,
            _STEADY_LR * recipe.max_lr,
            recipe.weight_decay,
            recipe.seed + _STEADY_SEED,
        )
        self._done = lambda share: (rough + share * steady) / recipe.epochs
        return self._fit(model, own, kept, _part(progress, rough, recipe.epochs), steady=True)

    def _epochs(self, epochs: int, start: nn.Module | None) -> tuple[int, int]:
        if start is not None:
            return 0, epochs
        rough = max(1, round((1 - self.teaching.steady) * epochs))
        return rough, epochs - rough

    def _fit(
        self, model: nn.Module, recipe: Recipe, kept: Kept, progress: Callable[[EpochReport], None], *, steady: bool
    ) -> nn.Module:
        self.device.place(model)
        echoing = bool(self.teaching.echo) and not self.others
        average = running_average(model, batch_statistics=not steady) if steady or echoing else None
        teachers = [average] if average is not None and echoing else list(self.others)

        def begin(share: float) -> None:
            self._share = share

        with without_dropout(model) if self.teaching.loss == "log-scores" else contextlib.nullcontext():
            fit(
                model,
                len(self.data.images),
                self._loss_of(model, teachers, recipe.batch),
                recipe,
                self.device,
                calibration=lambda: clean_batches(self._natural(), self.device),
                before=begin,
                after=(lambda: average.update_parameters(model)) if average is not None else (lambda: None),
                companions={"average": average} if average is not None else {},
                steady=steady,
                checkpoint=kept.running,
                progress=progress,
            )
        if steady and average is not None:
            model.load_state_dict(average.module.state_dict())
        return model

    def _natural(self) -> np.ndarray:
        """What batch-norm statistics are taken from: asked pictures may be changed ones."""
        pool = self.extras.pool
        return self.data.images if pool is None or not self.teaching.steady else pool

    def _loss_of(
        self, model: nn.Module, teachers: Sequence[nn.Module], batch: int
    ) -> Callable[[torch.Tensor, torch.Generator], torch.Tensor]:
        images, device, teaching = torch.from_numpy(self.data.images), self.device.name, self.teaching
        scores, least = torch.from_numpy(self.data.scores).to(device), least_score(self.data.scores)
        weights = None if self.data.weights is None else torch.from_numpy(self.data.weights).to(device)
        labelled, labels = self._labelled()
        moved = self._moved()
        views_of = self._views(batch) if teaching.echo and teachers else None

        def loss_of(indices: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            asked = to_batch(images[indices], device)
            moves = moved[indices].to(device).view(-1, 1, 1, 1)
            parts = [torch.where(moves, small_moves(asked, generator), asked)]
            if labelled is not None and teaching.truth:
                chosen = torch.randint(len(labelled), (max(1, batch // 2),), generator=generator)
                parts.append(small_moves(to_batch(labelled[chosen], device), generator))
            if views_of is not None:
                parts.append(views_of(generator))
            said = list(model(torch.cat(parts)).float().split([len(p) for p in parts]))
            counts = None if weights is None else weights[indices]
            loss = loss_to_scores(said[0], scores[indices], teaching.loss, least, counts)
            if labelled is not None and teaching.truth:
                loss = loss + teaching.truth * nn_functional.cross_entropy(said[1], labels[chosen].to(device))
            if views_of is not None:
                weight = teaching.echo * (1.0 if self.others else min(1.0, self._done(self._share) / _RAMP))
                loss = loss + weight * loss_to_scores(said[-1], _echo(teachers, parts[-1]), teaching.loss)
            return loss

        return loss_of

    def _moved(self) -> torch.Tensor:
        """Which of the asked pictures are shown moved, bool (n,)."""
        images, pool = self.data.images, self.extras.pool
        if self.teaching.moves != "plain":
            return torch.full((len(images),), self.teaching.moves == "all")
        known = set() if pool is None else {picture.tobytes() for picture in pool}
        return torch.tensor([picture.tobytes() in known for picture in images])

    def _labelled(self) -> tuple[torch.Tensor | None, torch.Tensor]:
        pool, labels = self.extras.pool, self.extras.labels
        if pool is None or labels is None:
            return None, torch.empty(0)
        known = labels >= 0
        if not known.any():
            return None, torch.empty(0)
        return torch.from_numpy(pool[known]), torch.from_numpy(labels[known])

    def _views(self, batch: int) -> Callable[[torch.Generator], torch.Tensor]:
        """Batches of pictures that need no answer: moved, recoloured and mixed ones, and pictures of nothing."""
        images = torch.from_numpy(self.data.images)
        some = images if self.extras.pool is None else torch.cat([images, torch.from_numpy(self.extras.pool)])
        leaves = torch.from_numpy(dead_leaves(_LEAVES, images.shape[1], np.random.default_rng(0)))

        def views(generator: torch.Generator) -> torch.Tensor:
            foreign = round(_LEAVES_SHARE * batch)
            known = some[torch.randint(len(some), (batch - foreign,), generator=generator)]
            other = leaves[torch.randint(len(leaves), (foreign,), generator=generator)]
            moved = small_moves(to_batch(known, self.device.name), generator)
            half = len(moved) // 4
            moved[:half] = recoloured(moved[:half], generator)
            return torch.cat([mixed_views(moved, generator), to_batch(other, self.device.name)])

        return views


def _echo(teachers: Sequence[nn.Module], views: torch.Tensor) -> torch.Tensor:
    """Scores of the views, each by one of the teachers in turn: on average that teaches their mean, at one's cost."""
    with torch.no_grad():
        parts = [t(part) for t, part in zip(teachers, _dealt(views, len(teachers)), strict=True)]
        scores = torch.softmax(torch.cat(parts).float(), dim=1)
    order = torch.cat(_dealt(torch.arange(len(views)), len(teachers)))
    return scores[torch.argsort(order).to(scores.device)]


def _dealt(values: torch.Tensor, hands: int) -> list[torch.Tensor]:
    return [values[hand::hands] for hand in range(hands)]


def _part(progress: Callable[[EpochReport], None], done: int, total: int) -> Callable[[EpochReport], None]:
    """Reports of one training as part of several."""
    return lambda report: progress(EpochReport(done + report.epoch, total, report.loss))
