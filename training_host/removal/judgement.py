"""How everything that an attack gives is judged: the scheme's own test, on pictures that no training has seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pi_agent.contract.claim import WatermarkKey
from pi_agent.contract.errors import RefusedInput
from training_host.data.arrays import LabelledSet
from training_host.watermarks.base import Finding, Scheme, ScoresOf


@dataclass(frozen=True)
class Judge:
    """Tests suspects for one mark, all with the same triggers: what differs between two rows is the suspect.

    `pictures`: held-out ones. Raises `RefusedInput` (65) where they do not suffice for the scheme's test.
    """

    scheme: Scheme
    key: WatermarkKey
    pictures: LabelledSet
    seed: int = 0

    def __post_init__(self) -> None:
        even = np.float32(1 / len(self.pictures.classes))
        if self._find(lambda images: np.full((len(images), len(self.pictures.classes)), even)) is None:
            reason = "too few held-out pictures to test the mark with"
            raise RefusedInput(path="the data", reason=reason, hint="every class needs pictures in the test part")

    def __call__(self, scores_of: ScoresOf) -> Finding:
        """Raises `ValueError` for scores that are not finite."""
        finding = self._find(scores_of)
        if finding is None:
            raise ValueError("the pictures sufficed for one suspect and not for another")
        return finding

    def _find(self, scores_of: ScoresOf) -> Finding | None:
        return self.scheme.find(self.key, scores_of, self.pictures, np.random.default_rng(self.seed))
