"""Pictures are changed before the stolen network sees them, so that triggers lose what fires them.

After the input squeezing, smoothing and compression of the Watermark-Robustness-Toolbox (Lukas et al., IEEE S&P 2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from training_host.removal.base import EVASION, Stolen, Thief

Pixels = npt.NDArray[np.uint8]
CHANGES = ("jpeg", "blur", "median", "mean", "noise", "levels", "mirror")


@dataclass(frozen=True)
class InputChange:
    """`change` and its `strength`, at the network's own size (64x64, say):

    jpeg: quality 1..100 (95, 65, 45); blur: sigma of a Gaussian in pixels (.5, .7); median, mean: side of the window,
    odd (3); noise: standard deviation, of pixels in 0..1 (.01 to .1); levels: per channel (16 are a bit depth of 4);
    mirror: no strength. Raises `ValueError` for others.
    """

    change: str = "jpeg"
    strength: float = 65

    def __post_init__(self) -> None:
        if self.change not in CHANGES:
            raise ValueError(f"change is one of {', '.join(CHANGES)}, not {self.change!r}")
        window = self.change in ("median", "mean")
        least = {"jpeg": 1, "levels": 2, "median": 3, "mean": 3}.get(self.change, 1e-3)
        if self.change != "mirror" and (self.strength < least or (window and self.strength % 2 != 1)):
            raise ValueError(f"no strength of {self.change}: {self.strength}")

    @property
    def kind(self) -> str:
        """`EVASION`."""
        return EVASION

    def steal(self, thief: Thief) -> Stolen:
        """The answers to changed pictures. Nothing to go on from: what is served is not a plain network."""
        return Stolen(lambda images: thief.ask(self.apply(images, thief.rng())))

    def apply(self, images: Pixels, rng: np.random.Generator) -> Pixels:
        """uint8 (n, height, width, 3) to the same shape."""
        if self.change == "mirror":
            return np.ascontiguousarray(images[:, :, ::-1])
        if self.change == "noise":
            changed = images + rng.normal(0, 255 * self.strength, images.shape)
            return np.asarray(np.clip(np.rint(changed), 0, 255), np.uint8)
        if self.change == "levels":
            steps = int(self.strength) - 1
            return np.asarray(np.rint(np.rint(images * (steps / 255)) * (255 / steps)), np.uint8)
        return np.stack([self._picture(image) for image in images]) if len(images) else images

    def _picture(self, image: Pixels) -> Pixels:
        size = int(self.strength)
        if self.change == "jpeg":
            quality = [int(cv2.IMWRITE_JPEG_QUALITY), size]
            _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)
            return np.asarray(cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB), np.uint8)
        if self.change == "blur":
            return np.asarray(cv2.GaussianBlur(image, (0, 0), self.strength), np.uint8)
        return np.asarray(cv2.medianBlur(image, size) if self.change == "median" else cv2.blur(image, (size, size)))
