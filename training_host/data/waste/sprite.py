"""A sprite: one object as layers of matter, not yet lit.

It stores what the surface *is* (colour, height, gloss, metal, clearness) and leaves how it *looks* to the scene.
So one drawing of a bottle serves every pose, every light and every background.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from training_host.data.waste.texture import SIDE, Field, stack


class Sprite:
    """Two (size, size, 4) float32 images, both multiplied by coverage so that edges blend cleanly.

    ``paint`` is red, green, blue and coverage; ``matter`` is height (pixels), gloss, metal and clearness (0..1).
    """

    def __init__(self, size: int = SIDE) -> None:
        self.paint: Field = np.zeros((size, size, 4), np.float32)
        self.matter: Field = np.zeros((size, size, 4), np.float32)

    def add(
        self,
        mask: Field,
        colour: Field,
        *,
        height: Field | float = 0.0,
        gloss: Field | float = 0.1,
        metal: Field | float = 0.0,
        clear: Field | float = 0.0,
    ) -> None:
        """Lay a part over what is there; ``colour`` is (3,) or (size, size, 3)."""
        left, top, wide, high = cv2.boundingRect((mask > 0).astype(np.uint8))
        if not wide:
            return
        here = np.s_[top : top + high, left : left + wide]  # most parts are small: work only where they are

        def plane(value: Field | float) -> Field:
            return (
                value[here].astype(np.float32) if isinstance(value, np.ndarray) else np.full((high, wide), value, "f")
            )

        cover = stack(plane(mask), 4)
        skin = [colour[here]] if colour.ndim == 3 else [plane(float(channel)) for channel in colour]
        for image, layers in (
            (self.paint, [*skin, plane(1.0)]),
            (self.matter, [plane(height), plane(gloss), plane(metal), plane(clear)]),
        ):
            below = image[here]
            below += cover * (cv2.merge(layers) - below)

    def decal(
        self, mask: Field, colour: Field, *, gloss: float | None = None, metal: float = 0.0, clear: float = 0.0
    ) -> None:
        """Print or paint on the surface that is there: its height and its outline stay."""
        cover = mask * (self.paint[..., 3] > 0.5)
        shine = self.matter[..., 1] if gloss is None else gloss
        self.add(cover, colour, height=self.matter[..., 0], gloss=shine, metal=metal, clear=clear)

    def emboss(self, bump: Field) -> None:
        """Raise the surface by ``bump`` pixels."""
        self.matter[..., 0] += bump * self.paint[..., 3]

    def cut(self, mask: Field) -> None:
        """Take matter away where the mask is."""
        keep = stack(1 - mask, 4)
        self.paint *= keep
        self.matter *= keep

    def over(self, other: "Sprite") -> None:
        """Lay another sprite of the same size on top."""
        rest = stack(1 - other.paint[..., 3], 4)
        self.paint = other.paint + rest * self.paint
        self.matter = other.matter + rest * self.matter

    def posed(self, matrix: NDArray[np.float64], size: int) -> "Sprite":
        """The sprite through a 3x3 pixel-to-pixel perspective, on a canvas of ``size`` pixels."""
        result = Sprite(size)
        left, top, wide, high = cv2.boundingRect((self.paint[..., 3] > 0).astype(np.uint8))
        corners = [(left, top), (left + wide, top), (left + wide, top + high), (left, top + high)]
        seen = cv2.perspectiveTransform(np.array([corners], np.float64), matrix)[0]
        x0, y0 = np.clip(np.floor(seen.min(0)) - 1, 0, size).astype(int)
        x1, y1 = np.clip(np.ceil(seen.max(0)) + 2, 0, size).astype(int)
        if x1 > x0 and y1 > y0:  # some of it is in the picture; only that part is worth the work
            here, window = np.s_[y0:y1, x0:x1], (int(x1 - x0), int(y1 - y0))
            moved = np.array([[1, 0, -x0], [0, 1, -y0], [0, 0, 1]]) @ matrix
            result.paint[here] = cv2.warpPerspective(self.paint, moved, window, flags=cv2.INTER_LINEAR)
            result.matter[here] = cv2.warpPerspective(self.matter, moved, window, flags=cv2.INTER_LINEAR)
            result.matter[here][..., 0] *= abs(np.linalg.det(matrix[:2, :2])) ** 0.5  # larger is also higher
        return result

    def mirrored(self) -> "Sprite":
        """The sprite with left and right exchanged."""
        return self.remade(lambda image: cv2.flip(image, 1))

    def bent(self, x: Field, y: Field) -> "Sprite":
        """The sprite looked up at other places (object units): squeezed, bowed or torn out of shape."""
        half = SIDE / 2
        columns, rows = ((x + 1) * half - 0.5).astype(np.float32), ((y + 1) * half - 0.5).astype(np.float32)
        return self.remade(lambda image: cv2.remap(image, columns, rows, cv2.INTER_LINEAR))

    def remade(self, change: Callable[[Field], Field]) -> "Sprite":
        """A sprite of both images, changed."""
        result = Sprite.__new__(Sprite)
        result.paint, result.matter = change(self.paint), change(self.matter)
        return result


Draw = Callable[[np.random.Generator], Sprite]


def place(x: float, y: float, scale: float, angle: float) -> NDArray[np.float64]:
    """The matrix that shrinks, turns (radians) and moves a sprite within its own canvas (object units)."""
    c, s, half = np.cos(angle) * scale, np.sin(angle) * scale, SIDE / 2
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    before = np.array([[1, 0, -half], [0, 1, -half], [0, 0, 1]])
    after = np.array([[1, 0, half * (1 + x)], [0, 1, half * (1 + y)], [0, 0, 1]])
    matrix: NDArray[np.float64] = after @ turn @ before
    return matrix


def scatter(rng: np.random.Generator, draw: Draw, count: int, scale: float, spread: float = 0.5) -> Sprite:
    """Several of a kind strewn on one canvas."""
    result = Sprite()
    turn = rng.uniform(0, 2 * np.pi)
    for index in range(count):
        angle = turn + index * 2 * np.pi / count  # round a ring, so that they overlap only a little
        x, y = spread * np.cos(angle), spread * np.sin(angle)
        pose = place(x, y, scale * rng.uniform(0.85, 1.15), rng.uniform(0, 2 * np.pi))
        result.over(draw(rng).posed(pose, SIDE))
    return result
