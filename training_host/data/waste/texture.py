"""Fields of surface detail: what makes a flat shape read as paper, cloth, board or foil.

Every function returns a float32 array. A *field* is one number per pixel (a bump, a stain, a mask); it is
``size`` x ``size`` pixels, by default the side of a sprite. Heights are in pixels, masks in 0..1.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]
Rgb = tuple[float, float, float]

SIDE = 224  # a sprite's side in pixels; every object is drawn once at this size and then posed
HALF = SIDE / 2  # pixels to an object unit


@cache
def grid(size: int = SIDE) -> tuple[Field, Field]:
    """The x and the y of every pixel in object units: -1..1 from left to right and from top to bottom."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    x, y = np.meshgrid(axis, axis)
    x.flags.writeable = y.flags.writeable = False  # shared by every caller
    return x, y


def noise(rng: np.random.Generator, cell: float | tuple[float, float], size: int = SIDE) -> Field:
    """Smooth noise in about -1..1 whose lumps are ``cell`` pixels wide (or ``(wide, high)``)."""
    wide, high = cell if isinstance(cell, tuple) else (cell, cell)
    coarse = rng.random((max(2, round(size / high) + 2), max(2, round(size / wide) + 2)), dtype=np.float32)
    coarse = coarse * 2 - 1
    if min(wide, high) > 8:  # a smooth quarter-size image loses nothing and costs a fifth
        coarse = cv2.resize(coarse, (size // 4, size // 4), interpolation=cv2.INTER_CUBIC)
    image: Field = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_LINEAR)
    return image


def fractal(rng: np.random.Generator, cell: float, octaves: int = 3, size: int = SIDE) -> Field:
    """Noise with finer and weaker noise upon it, as in stone, soil or a stain."""
    total = noise(rng, cell, size)
    for octave in range(1, octaves):
        total += noise(rng, max(1.0, cell / 2**octave), size) * 0.5**octave
    return total


def crumple(rng: np.random.Generator, cell: float, depth: float) -> Field:
    """The height of a crumpled sheet: folding noise over at zero leaves sharp creases between soft facets."""
    total = np.abs(noise(rng, cell)) + 0.5 * np.abs(noise(rng, cell * 0.5)) + 0.1 * noise(rng, cell * 0.2)
    # The lattice of the noise runs along the axes; turned, its creases do not line up with the sheet's edges.
    turn = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), rng.uniform(25, 65), 1.0)
    image: Field = cv2.warpAffine(total * depth, turn, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT)
    return image


def ripples(period: float, angle: float, bend: Field | float = 0.0) -> Field:
    """Parallel waves in -1..1: the flutes of corrugated board, or ribs. ``bend`` shifts their phase."""
    x, y = grid()
    along = x * math.cos(angle) + y * math.sin(angle)
    return np.sin(along * (math.pi * SIDE / period) + bend, dtype=np.float32)


def weave(period: float, angle: float) -> Field:
    """Threads that cross at a right angle, -1..1."""
    return ripples(period, angle) * ripples(period, angle + math.pi / 2)


@cache
def threads() -> Field:
    """The height of cloth's weave, alike for every cloth: too fine for its direction to matter."""
    relief = 0.4 * weave(3.2, 0.3)
    relief.flags.writeable = False
    return relief


def folds(rng: np.random.Generator, period: float, depth: float) -> Field:
    """The height of soft cloth: waves that a slow noise bends and lets die out here and there."""
    waves = ripples(period, rng.uniform(0, math.pi), noise(rng, 60) * 4)
    return depth * (waves * (0.6 + 0.5 * noise(rng, 70)) + noise(rng, 45))


def lettering(rng: np.random.Generator, row: float = 7, left: float = 0.12, right: float = 0.88) -> Field:
    """A mask of text seen from too far to be read: rows of words between two margins (fractions of the width)."""
    rows, columns = round(SIDE / row), round(SIDE / 3)
    ink = (rng.random((rows, columns)) < 0.82).astype(np.float32) * rng.uniform(0.5, 1, (rows, columns))
    ends = rng.uniform(0.55, 1.0, rows) * (right - left) + left
    where = np.arange(columns) / columns
    ink *= (where > left) & (where < ends[:, None])
    page = np.zeros((rows * 2, columns), np.float32)
    page[::2] = ink  # every other row is the gap between two lines
    image: Field = cv2.resize(page, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    return image


def word(rng: np.random.Generator, at: tuple[float, float], height: float, thickness: float = 0.2) -> Field:
    """A mask with one large made-up word that starts at ``at`` (object units, the word's lower left)."""
    text = "".join(rng.choice(list("AEIOUBCDKLMNRSTVXZ"), rng.integers(3, 7)))
    mask = np.zeros((SIDE, SIDE), np.uint8)
    scale = height * SIDE / 2 / 22  # a Hershey capital is 22 pixels high at scale 1
    origin = (round((at[0] + 1) * SIDE / 2), round((at[1] + 1) * SIDE / 2))
    width = max(1, round(thickness * height * SIDE / 2))
    cv2.putText(mask, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, width, cv2.LINE_AA)
    return as_mask(mask)


def as_mask(image: NDArray[np.uint8]) -> Field:
    """8-bit coverage to 0..1."""
    return image.astype(np.float32) * np.float32(1 / 255)


def tone(rng: np.random.Generator, colour: Rgb, spread: float = 0.06) -> Field:
    """A colour (3,) near ``colour``: brightness and hue both stray by about ``spread``."""
    stray = rng.normal(0, spread) + rng.normal(0, spread / 2, 3)
    return np.clip(np.asarray(colour) + stray, 0.02, 0.98).astype(np.float32)


def vivid(rng: np.random.Generator, low: float = 0.15, high: float = 0.9) -> Field:
    """Any saturated colour (3,), as print, dye and plastic have."""
    colour = np.array([high, low, rng.uniform(low, high)], np.float32)
    return rng.permutation(colour)


def stack(field: Field, channels: int = 3) -> Field:
    """A field repeated as the channels of an image.

    Arithmetic on such images is several times faster than broadcasting over a last axis of three.
    """
    image: Field = cv2.merge([field] * channels)
    return image


def flat(colour: Field) -> Field:
    """A (SIDE, SIDE, 3) image of one colour (3,)."""
    image: Field = cv2.merge([np.full((SIDE, SIDE), channel, np.float32) for channel in colour])
    return image


def mottle(colour: Field, field: Field, strength: float = 0.1) -> Field:
    """A flat colour (3,) made uneven: a (size, size, 3) image, brighter where ``field`` is high."""
    factor = 1 + strength * field.astype(np.float32, copy=False)
    image: Field = cv2.merge([factor * float(channel) for channel in colour])
    return image


def blend(below: Field, above: Field, share: Field) -> Field:
    """An image with a colour (3,) or another image laid over it where ``share`` (a mask) is high."""
    top = above if above.ndim == 3 else flat(above)
    return below + stack(share.astype(np.float32, copy=False)) * (top - below)


def pick(rng: np.random.Generator, colours: Sequence[Rgb], spread: float = 0.05, odd: float = 0.05) -> Field:
    """A colour (3,) near one of a palette; with chance ``odd`` any vivid colour instead."""
    return vivid(rng) if rng.random() < odd else tone(rng, colours[int(rng.integers(len(colours)))], spread)


def label(rng: np.random.Generator, colours: Sequence[Rgb]) -> Field:
    """A printed label as a (SIDE, SIDE, 3) image: ground, stripe and emblem from a palette, and a word."""
    x, y = grid()
    image = flat(pick(rng, colours))
    stripe = np.abs(y + x * rng.uniform(-0.4, 0.4) - rng.uniform(-0.5, 0.5)) < rng.uniform(0.05, 0.25)
    image[stripe] = pick(rng, colours)
    emblem = (x - rng.uniform(-0.3, 0.3)) ** 2 + (y - rng.uniform(-0.3, 0.3)) ** 2 < rng.uniform(0.02, 0.12)
    image[emblem] = tone(rng, (0.9, 0.85, 0.6), 0.15)
    ink = tone(rng, (0.12, 0.12, 0.14)) if image.mean() > 0.5 else tone(rng, (0.93, 0.93, 0.93), 0.03)
    return blend(image, ink, word(rng, (-0.45, rng.uniform(-0.2, 0.4)), rng.uniform(0.15, 0.3)))
