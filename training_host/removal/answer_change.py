"""Answers are changed before they are given: rounded, cut, flattened or sharpened, or the label only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training_host.removal.base import EVASION, Stolen, Thief

Scores = npt.NDArray[np.float32]
CHANGES = ("round", "top", "temperature", "label")


@dataclass(frozen=True)
class AnswerChange:
    """`change` and its `strength`: round: decimals; top: so many best scores are told, the others are zero;
    temperature: above one flatter, below one sharper; label: no strength. Scores sum to one afterwards.

    Raises `ValueError` for others.
    """

    change: str = "round"
    strength: float = 2

    def __post_init__(self) -> None:
        if self.change not in CHANGES:
            raise ValueError(f"change is one of {', '.join(CHANGES)}, not {self.change!r}")
        least = {"top": 1.0, "temperature": 1e-3}.get(self.change, 0.0)
        if self.strength < least:
            raise ValueError(f"no strength of {self.change}: {self.strength}")

    @property
    def kind(self) -> str:
        """`EVASION`."""
        return EVASION

    def steal(self, thief: Thief) -> Stolen:
        """The changed answers. Nothing to go on from: what is served is not a plain network."""
        return Stolen(lambda images: self.apply(thief.ask(images)))

    def apply(self, scores: Scores) -> Scores:
        """float32 (n, classes) that sum to one, to the same. Where rounding leaves nothing, the label is told."""
        label = np.eye(scores.shape[1])[scores.argmax(axis=1)]
        told = scores.astype(np.float64)
        if self.change == "label":
            told = label
        elif self.change == "round":
            told = np.round(told, int(self.strength))
        elif self.change == "top":
            order = np.argsort(-told, axis=1, kind="stable")
            np.put_along_axis(told, order[:, int(self.strength) :], 0.0, axis=1)
        else:
            logs = np.log(np.clip(told, 1e-30, None)) / self.strength
            told = np.exp(logs - logs.max(axis=1, keepdims=True))
        total = told.sum(axis=1, keepdims=True)
        return np.where(total > 0, told / np.where(total > 0, total, 1.0), label).astype(np.float32)
