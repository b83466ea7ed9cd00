"""A small network of depthwise separable convolutions: the kind that phones run."""

from __future__ import annotations

import torch
from torch import nn


def _separable(before: int, after: int, stride: int = 1) -> tuple[nn.Module, ...]:
    """A 3x3 convolution of every channel for itself, then a 1x1 convolution across channels.

    Howard et al., MobileNets, 2017, section 3.1 and figure 3.
    """
    return (
        nn.Conv2d(before, before, 3, stride, padding=1, groups=before, bias=False),
        nn.BatchNorm2d(before),
        nn.ReLU(),
        nn.Conv2d(before, after, 1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    )


class MobileSmall(nn.Module):
    """Five separable convolutions, global average pooling, one dense layer; about 140k parameters at `width` 32.

    Input float32 (n, 3, height, width) in 0..1, made for 64x64; output logits (n, classes).
    """

    def __init__(self, classes: int, width: int = 32) -> None:
        super().__init__()
        self.width = w = width
        self.features = nn.Sequential(
            nn.Conv2d(3, w, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(w),
            nn.ReLU(),
            *_separable(w, 2 * w, stride=2),
            *_separable(2 * w, 4 * w),
            *_separable(4 * w, 4 * w),
            *_separable(4 * w, 8 * w, stride=2),
            *_separable(8 * w, 8 * w),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(8 * w, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        logits: torch.Tensor = self.head(self.features(x))
        return logits
