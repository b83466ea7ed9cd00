"""Which question does a picture show whose bytes are not the question's?

Other versions of a JPEG library write other bytes for the same pixels. What was asked is then found by its content. Two
pictures of different things are dozens of grey levels apart, one picture in two encodings less than one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pi_agent.contract.errors import RefusedImage
from pi_agent.contract.images import SIDE, QueryImage
from pi_agent.prepare import decode_picture, decode_query
from pi_agent.verify.sheet import Sheet

CLOSE = 2.0
"""Mean absolute difference in levels of 255 up to which two encodings show the same picture."""
CLEARLY = 2.0
"""The second best match must be so many times as far: with `--jpeg` one picture is asked in two qualities."""
_CELL = 10


class Finder:
    """Finds the images of a sheet by what they show. Raises `RefusedInput` (65) for bad carriers."""

    def __init__(self, sheet: Sheet) -> None:
        self._sheet, self._hashes = sheet, list(sheet.numbers)
        self._coarse = np.stack([_coarse(decode_picture(image.jpeg)) for image in sheet.images()])

    def find(self, jpeg: bytes) -> str | None:
        """The SHA-256 of the one image that shows the same; None where none does, or more than one may."""
        try:
            pixels = decode_query(jpeg)
        except RefusedImage:
            return None
        # Averaging never makes a difference larger: what is far apart as a thumbnail is at least as far apart in full.
        thumbnails = np.abs(self._coarse - _coarse(pixels)).mean(axis=1)
        possible = [self._hashes[i] for i in np.flatnonzero(thumbnails <= CLOSE * CLEARLY)]
        distances = sorted((_distance(image, pixels), image.sha256) for image in self._sheet.images(possible))
        if not distances or distances[0][0] > CLOSE:
            return None
        if len(distances) > 1 and distances[1][0] <= CLEARLY * distances[0][0]:
            return None
        return distances[0][1]


def _coarse(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Mean colours of a grid, float32 (2700,)."""
    cells = pixels.astype(np.float32).reshape(SIDE // _CELL, _CELL, SIDE // _CELL, _CELL, 3)
    return np.asarray(cells.mean(axis=(1, 3)).ravel(), np.float32)


def _distance(image: QueryImage, pixels: npt.NDArray[np.uint8]) -> float:
    return float(np.abs(decode_picture(image.jpeg).astype(np.int16) - pixels).mean())
