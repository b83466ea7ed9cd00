"""Which question does a picture show whose bytes are not the question's?

Other versions of a JPEG library write other bytes for the same pixels. What was asked is then found by its content. Two
pictures of different things are dozens of grey levels apart, one picture in two encodings less than one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pi_agent.contract.errors import RefusedImage
from pi_agent.prepare import decode_picture, decode_query
from pi_agent.verify.sheet import Sheet

CLOSE = 2.0
"""Mean absolute difference in levels of 255 up to which two encodings show the same picture."""
CLEARLY = 2.0
"""The second best match must be so many times as far: with `--jpeg` one picture is asked in two qualities."""
_EVERY = 5
"""Every fifth pixel of every fifth row tells the difference well enough, and meets all places in JPEG's 8x8 blocks."""


class Finder:
    """Finds the images of a sheet by what they show. Raises `RefusedInput` (65) for bad carriers."""

    def __init__(self, sheet: Sheet) -> None:
        self._hashes = list(sheet.numbers)
        self._samples = np.stack([_sample(decode_picture(image.jpeg)) for image in sheet.images()])

    def find(self, jpeg: bytes) -> str | None:
        """The SHA-256 of the one image that shows the same; None where none does, or more than one may."""
        try:
            sample = _sample(decode_query(jpeg))
        except RefusedImage:
            return None
        distances = np.array([np.abs(own - sample).mean() for own in self._samples])
        best = int(distances.argmin())
        others = np.delete(distances, best)
        if distances[best] > CLOSE or (others <= CLEARLY * distances[best]).any():
            return None
        return self._hashes[best]


def _sample(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int16]:
    """Some of the pixels, int16 (60, 60, 3)."""
    return pixels[_EVERY // 2 :: _EVERY, _EVERY // 2 :: _EVERY].astype(np.int16)
