"""Scores of a torch network, in batches."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from training_host.training.augment import to_batch
from training_host.training.device import Device


def predict(
    model: nn.Module, images: npt.NDArray[np.uint8], device: Device, batch: int = 256
) -> npt.NDArray[np.float32]:
    """Softmax scores, float32 (n, classes), for uint8 images (n, height, width, 3)."""
    device.place(model).eval()
    parts = []
    with torch.no_grad():
        for start in range(0, len(images), batch):
            logits = model(to_batch(torch.from_numpy(images[start : start + batch]), device.name))
            parts.append(torch.softmax(logits.float(), dim=1).cpu().numpy())
    return np.concatenate(parts).astype(np.float32)
