"""A small residual network: what a thief takes who does not want the victim's architecture."""

from __future__ import annotations

import torch
from torch import nn


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al., CVPR 2016, section 3); the first one may halve the side."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
        )
        same = stride == 1 and before == after
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class ResNetSmall(nn.Module):
    """Three stages of two residual blocks, global average pooling, one dense layer; 393k parameters at `width` 24.

    Input float32 (n, 3, height, width) in 0..1, made for 64x64; output logits (n, classes). The first convolution
    halves the side, which the CIFAR networks of He et al. do not do: their pictures are half as large.
    """

    def __init__(self, classes: int, width: int = 24) -> None:
        super().__init__()
        self.width = w = width
        self.features = nn.Sequential(
            nn.Conv2d(3, w, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(w),
            nn.ReLU(),
            *(_Block(w, w, 1), _Block(w, w, 1)),
            *(_Block(w, 2 * w, 2), _Block(2 * w, 2 * w, 1)),
            *(_Block(2 * w, 4 * w, 2), _Block(4 * w, 4 * w, 1)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(4 * w, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        logits: torch.Tensor = self.head(self.features(x))
        return logits
