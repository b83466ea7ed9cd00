"""The RecycleMe network of CSAW ESC 2022 "dumps7er d1VE", layer by layer."""

from __future__ import annotations

import torch
from torch import nn


def _batch_norm(kind: type[nn.Module], features: int) -> nn.Module:
    """Keras' BatchNormalization(momentum=.99, scale=False): torch counts momentum the other way round, eps is 1e-3."""
    norm = kind(features, eps=1e-3, momentum=0.01)
    norm.weight.requires_grad_(False)  # stays one: there is a shift but no scale
    return norm


class RecycleMe(nn.Module):
    """Four convolutions and three dense layers on 64x64 RGB in 0..1; `width` 64 is the original, 16 the narrow one.

    Input float32 (n, 3, 64, 64); output logits (n, classes). The softmax belongs to the export, so that losses can work
    on logits.
    """

    def __init__(self, classes: int, width: int = 64) -> None:
        super().__init__()
        self.width = w = width
        self.features = nn.Sequential(
            nn.Conv2d(3, w, 3, bias=False),
            nn.ReLU(),
            _batch_norm(nn.BatchNorm2d, w),
            nn.ReLU(),
            *self._block(w, w),
            *self._block(w, 2 * w),
            *self._block(2 * w, 2 * w),
            nn.Flatten(),
        )
        self.head = nn.Sequential(
            nn.Linear(2 * w * 7 * 7, 64),
            _batch_norm(nn.BatchNorm1d, 64),
            nn.ReLU(),
            nn.Linear(64, 64),
            _batch_norm(nn.BatchNorm1d, 64),
            nn.Dropout(0.5),
            nn.ReLU(),
            nn.Linear(64, classes),
        )

    @staticmethod
    def _block(before: int, after: int) -> tuple[nn.Module, ...]:
        conv = nn.Conv2d(before, after, 3, padding="same")
        return conv, _batch_norm(nn.BatchNorm2d, after), nn.MaxPool2d(2), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        logits: torch.Tensor = self.head(self.features(x))
        return logits
