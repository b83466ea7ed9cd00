"""Several oracles at once: the marked one's answers are averaged with those of honest networks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training_host.data.arrays import ScoredSet
from training_host.removal.base import EVASION, EXTRACTION, Stolen, Thief
from training_host.training.distill import distill
from training_host.training.evaluate import predict
from training_host.training.loop import Recipe
from training_host.watermarks.base import ScoresOf

SERVED = ("student", "vote")


@dataclass(frozen=True)
class Ensemble:
    """The marked oracle among `honest` networks of the thief's own, all with the same vote.

    `serve` "student": a network that learns the averaged scores (the threat that CosWM was made for, Charette et al.,
    AAAI 2022). "vote": no student, the average itself is served, so every answer costs all networks. `arch`: the
    student's, None means the victim's. `epochs`: as a multiple of an honest training's. Raises `ValueError` for
    settings that make no sense.
    """

    honest: int = 3
    serve: str = "student"
    arch: str | None = None
    epochs: float = 1.0

    def __post_init__(self) -> None:
        if self.serve not in SERVED:
            raise ValueError(f"cannot serve a {self.serve!r}; known: {', '.join(SERVED)}")
        if self.honest < 1 or self.epochs <= 0:
            raise ValueError("at least one honest network; epochs must be positive")

    @property
    def kind(self) -> str:
        """A student is a new network; a vote is the stolen one as it is, with company."""
        return EXTRACTION if self.serve == "student" else EVASION

    def steal(self, thief: Thief) -> Stolen:
        """Every picture of the thief is asked once, by a student. A vote leaves no network."""
        average = self._average(thief)
        if self.serve == "vote":
            return Stolen(average)
        pictures, arch = thief.pictures, self.arch or thief.arch
        seed = int(thief.rng().integers(2**31))  # not thief.seed: a student must not start from its teacher's weights
        recipe = Recipe(max(1, round(self.epochs * thief.epochs)), seed=seed)
        data = ScoredSet(pictures.images, average(pictures.images), pictures.classes)
        return Stolen.of(distill(arch, data, recipe, thief.device, progress=thief.progress), thief.device, arch)

    def _average(self, thief: Thief) -> ScoresOf:
        networks = [thief.honest(i) for i in range(self.honest)]

        def average(images: np.ndarray) -> np.ndarray:
            votes = [thief.ask(images), *(predict(network, images, thief.device) for network in networks)]
            return np.asarray(np.mean(votes, axis=0), np.float32)

        return average
