"""Composites: two ordinary pictures in one, coarse enough to survive resizing, JPEG and quantisation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

GEOMETRIES = ("left-right", "top-bottom", "centre")


def compose(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8], geometry: str) -> npt.NDArray[np.uint8]:
    """Lay `second` over `first`; both uint8 (..., side, side, 3) RGB of equal shape, `side` a multiple of four.

    left-right, top-bottom: each keeps its own half. centre: the middle square of `second`, half as wide, inside
    `first`. All borders lie on quarters of the side, so composing at 300 pixels and shrinking by area to 64 gives the
    same picture as shrinking first (up to rounding): training composes at the network's size. Raises `ValueError`.
    """
    square = first.ndim >= 3 and first.shape[-3] == first.shape[-2] and first.shape[-1] == 3
    if not square or first.shape != second.shape or first.shape[-2] % 4:
        raise ValueError(f"two square pictures of one size (a multiple of 4) are needed: {first.shape}, {second.shape}")
    side = first.shape[-2]
    out = first.copy()
    half, quarter = side // 2, side // 4
    if geometry == "left-right":
        out[..., :, half:, :] = second[..., :, half:, :]
    elif geometry == "top-bottom":
        out[..., half:, :, :] = second[..., half:, :, :]
    elif geometry == "centre":
        middle = slice(quarter, side - quarter)
        out[..., middle, middle, :] = second[..., middle, middle, :]
    else:
        raise ValueError(f"unknown geometry {geometry!r}; known: {', '.join(GEOMETRIES)}")
    return out
