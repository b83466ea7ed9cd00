"""Batched augmentation on tensors: mirror, and small turns, shifts and zooms."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as nn_functional


def to_batch(images: torch.Tensor, device: str) -> torch.Tensor:
    """uint8 (n, height, width, 3) to float32 0..1 (n, 3, height, width), channels last in memory."""
    return images.to(device).permute(0, 3, 1, 2).float().div_(255.0)


def small_moves(
    batch: torch.Tensor, generator: torch.Generator, degrees: float = 10.0, shift: float = 0.08, zoom: float = 0.1
) -> torch.Tensor:
    """Mirror half of the pictures and turn, shift and zoom all of them a little; borders are reflected.

    `batch` float (n, 3, height, width). `shift` and `zoom` are shares of the side, `degrees` the largest turn.
    """
    n = len(batch)

    def uniform(limit: float) -> torch.Tensor:
        return (torch.rand(n, generator=generator) * 2 - 1) * limit

    angle, scale = uniform(math.radians(degrees)), 1 + uniform(zoom)
    mirror = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = [
        torch.stack([cos * mirror, -sin, uniform(2 * shift)], dim=1),
        torch.stack([sin * mirror, cos, uniform(2 * shift)], dim=1),
    ]
    theta = torch.stack(rows, dim=1).to(batch.device)
    grid = nn_functional.affine_grid(theta, list(batch.shape), align_corners=False)
    return nn_functional.grid_sample(batch, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def recoloured(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Other exposure and colours: every channel of a picture times 0.64 to 1.44, plus up to 0.06; cut off at 0 and 1.

    `batch` float (n, 3, height, width) in 0..1; the same ranges as `data.variants.derive`.
    """

    def uniform(low: float, high: float, channels: int) -> torch.Tensor:
        drawn = torch.rand(len(batch), channels, 1, 1, generator=generator)
        return (low + (high - low) * drawn).to(batch.device)

    gain = uniform(0.85, 1.15, 3) * uniform(0.75, 1.25, 1)
    return (batch * gain + uniform(-0.06, 0.06, 1)).clamp(0, 1)
