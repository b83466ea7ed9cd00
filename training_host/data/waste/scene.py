"""From a sprite to a photograph: pose, bystanders, light, and the faults of a phone camera."""

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from training_host.data.waste.ground import random_ground
from training_host.data.waste.light import Light, lit, random_light, shadow
from training_host.data.waste.shapes import lump, polygon, stroke
from training_host.data.waste.sprite import Draw, Sprite
from training_host.data.waste.texture import SIDE, Field, grid, mottle, noise, stack, tone

PICTURE = 300  # the side of a finished picture in pixels
_HEADROOM = 1.25  # the brightest value that the tone curve tells from white


def pose(rng: np.random.Generator, scale: float, offset: float) -> NDArray[np.float64]:
    """A random view of a sprite: turned, moved by up to ``offset`` of the picture, seen a little from the side."""
    angle = rng.normal(0, 0.15) + (np.pi / 2 if rng.random() < 0.07 else 0)  # upright, or lying now and then
    c, s = np.cos(angle), np.sin(angle)
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], np.float64)
    corners = corners @ np.array([[c, s], [-s, c]]) * scale
    corners[:, 1] *= rng.uniform(0.9, 1.0)  # a camera that looks down at a slant shortens one axis
    corners += rng.uniform(-0.05, 0.05, (4, 2)) + rng.uniform(-offset, offset, 2) * 2
    source = np.array([(0, 0), (SIDE, 0), (SIDE, SIDE), (0, SIDE)], np.float32)
    target = ((corners + 1) * (PICTURE / 2)).astype(np.float32)
    matrix: NDArray[np.float64] = cv2.getPerspectiveTransform(source, target)
    return matrix


def photograph(rng: np.random.Generator, subject: Draw, bystander: Draw, outdoors: float) -> NDArray[np.uint8]:
    """A finished (300, 300, 3) uint8 RGB picture of the subject, with a smaller bystander now and then.

    ``outdoors`` is the chance that it lies in the street or on a lawn.
    """
    light = random_light(rng)
    picture = random_ground(rng, PICTURE, outdoors)
    if rng.random() < 0.06:
        side = rng.choice([-0.36, 0.36], 2)
        picture = _put(rng, picture, bystander(rng), rng.uniform(0.22, 0.34), (side[0], side[1]), light)
    scale = rng.uniform(0.92, 1.1)
    picture = _put(rng, picture, subject(rng), scale, (0.0, 0.0), light)
    if rng.random() < 0.12:
        picture = _put(rng, picture, _crumb(rng), rng.uniform(0.3, 0.6), (0.0, 0.0), light)
    return _camera(rng, picture, light)


def _put(
    rng: np.random.Generator, picture: Field, sprite: Sprite, scale: float, at: tuple[float, float], light: Light
) -> Field:
    """Lay a sprite into the picture, with the shadow that it casts upon all that is there."""
    matrix = pose(rng, scale, 0.05)
    move = np.array([[1, 0, at[0] * PICTURE], [0, 1, at[1] * PICTURE], [0, 0, 1]])
    placed = sprite.posed(move @ matrix, PICTURE)
    shaded = picture * stack(1 - shadow(placed, light, rng.uniform(4, 16)))
    return lit(placed, shaded, light)


def _crumb(rng: np.random.Generator) -> Sprite:
    """A twig, a crumb or a scrap that lies about and may cover a bit of the subject."""
    sprite, colour = Sprite(), tone(rng, tuple(rng.uniform(0.15, 0.85, 3)), 0.02)
    x, y = rng.uniform(-0.8, 0.8, 2)
    if rng.random() < 0.5:
        mask = stroke([(x, y), (x + rng.uniform(-0.5, 0.5), y + rng.uniform(-0.5, 0.5))], 0.05)
    else:
        mask = polygon(lump(rng, rng.uniform(0.08, 0.25), 0.4, centre=(x, y)))
    sprite.add(mask, colour, height=3 + noise(rng, 15))
    return sprite


def _camera(rng: np.random.Generator, picture: Field, light: Light) -> NDArray[np.uint8]:
    """Uneven light, colour temperature, exposure, vignette, focus and sensor noise, in the order of a real one."""
    x, y = grid(PICTURE)
    fall = 1 + rng.uniform(0, 0.22) * (x * light.x + y * light.y)
    fall -= rng.uniform(0, 0.2) * (x * x + y * y)
    warm = rng.normal(0, 0.03)
    gain = rng.uniform(0.88, 1.1)
    picture = picture * mottle(np.array([1 + warm, 1 + rng.normal(0, 0.015), 1 - warm]) * gain, fall - 1, 1.0)
    if rng.random() < 0.6:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.5, 1.4))
    grain = (rng.random((PICTURE, PICTURE), dtype=np.float32) - 0.5) * rng.uniform(0.02, 0.1)
    raw = cv2.add(picture * (255 / _HEADROOM), stack(grain * (255 / _HEADROOM)), dtype=cv2.CV_8U)  # rounds and clips
    developed: NDArray[np.uint8] = cv2.LUT(raw, _film())
    return developed


@cache
def _film() -> NDArray[np.uint8]:
    """The tone curve, 8 bit to 8 bit: highlights above 0.85 roll off instead of clipping hard."""
    value = np.arange(256) * (_HEADROOM / 255)
    soft = np.where(value > 0.85, 0.85 + 0.15 * np.tanh((value - 0.85) / 0.15), value)
    return np.clip(soft * 255 + 0.5, 0, 255).astype(np.uint8)
