"""Outlines and solids in object units (-1..1, y downwards): where an object is, and how high it stands.

A *mask* is the coverage of every pixel in 0..1 with soft edges; a *height* is in pixels above the ground. The
scene turns heights into surface normals and so into light and shade, so a shape is all that an object needs
to look round, bent or flat.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from training_host.data.waste.texture import SIDE, Field, as_mask, grid

Pair = NDArray[np.float64] | Sequence[float]
Points = NDArray[np.float64] | Sequence[tuple[float, float]]

_SHIFT = 4  # OpenCV's fixed point: 1/16 pixel, so that edges do not snap to the pixel grid


def _fixed(points: Points) -> NDArray[np.int32]:
    pixels = (np.asarray(points, np.float64) + 1) * (SIDE / 2) - 0.5
    return np.round(pixels * (1 << _SHIFT)).astype(np.int32)


def polygon(points: Points) -> Field:
    """The mask of a closed outline."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillPoly(mask, [_fixed(points)], 255, cv2.LINE_AA, _SHIFT)
    return as_mask(mask)


def stroke(points: Points, width: float, closed: bool = False) -> Field:
    """The mask of a line of the given width: straps, seams, wires, stems."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    thickness = max(1, round(width * SIDE / 2))
    cv2.polylines(mask, [_fixed(points)], closed, 255, thickness, cv2.LINE_AA, _SHIFT)
    return as_mask(mask)


def ellipse(cx: float, cy: float, rx: float, ry: float) -> Field:
    """The mask of an upright ellipse."""
    angle = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    return polygon(np.stack([cx + rx * np.cos(angle), cy + ry * np.sin(angle)], 1))


def rectangle(x0: float, y0: float, x1: float, y1: float, radius: float = 0.0) -> Field:
    """The mask of an upright rectangle with rounded corners."""
    angle = np.linspace(0, 2 * math.pi, 32, endpoint=False) + math.pi / 32
    c, s = np.cos(angle), np.sin(angle)  # a circle pulled apart into four quarters
    return polygon(
        np.stack(
            [
                np.where(c > 0, x1 - radius, x0 + radius) + radius * c,
                np.where(s > 0, y1 - radius, y0 + radius) + radius * s,
            ],
            1,
        )
    )


def smooth(points: Points, steps: int = 8) -> NDArray[np.float64]:
    """A closed Catmull-Rom curve through the points, ``steps`` to each."""
    p = np.asarray(points, np.float64)
    before, after, beyond = np.roll(p, 1, 0), np.roll(p, -1, 0), np.roll(p, -2, 0)
    t = (np.arange(steps) / steps)[:, None]
    curve = [
        0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        for a, b, c, d in zip(before, p, after, beyond, strict=True)
    ]
    return np.concatenate(curve)


def ragged(rng: np.random.Generator, points: Points, amount: float) -> NDArray[np.float64]:
    """The outline with every point moved a little: hand-cut, torn or worn."""
    p = np.asarray(points, np.float64)
    return p + rng.uniform(-amount, amount, p.shape)


def lump(
    rng: np.random.Generator,
    radius: float,
    wobble: float,
    knots: int = 9,
    stretch: float = 1.0,
    centre: tuple[float, float] = (0.0, 0.0),
) -> NDArray[np.float64]:
    """The outline of a blob: ``wobble`` is the share by which its radius varies, ``stretch`` widens it."""
    angle = (np.arange(knots) + rng.uniform(0, 1)) * (2 * math.pi / knots)
    reach = radius * (1 + wobble * rng.uniform(-1, 1, knots))
    return smooth(np.stack([reach * np.cos(angle) * stretch, reach * np.sin(angle)], 1) + centre)


def dome(mask: Field, rise: float, bevel: float) -> Field:
    """The height of a pillow: it climbs ``rise`` pixels in a quarter circle, ``bevel`` pixels from the edge in."""
    inside = cv2.distanceTransform((mask > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
    t = 1 - np.minimum(inside / bevel, 1)
    image: Field = cv2.blur(rise * np.sqrt(1 - t * t), (5, 5))
    return image


class Turned(NamedTuple):
    """A solid of revolution seen from the side."""

    mask: Field
    height: Field
    along: Field  # the position on the axis of every surface point, in object units
    around: Field  # the angle round the axis, -1 (left edge) .. 1 (right edge)


def turned(profile: Sequence[tuple[float, float]], tilt: float = 0.0) -> Turned:
    """What a lathe makes: ``profile`` lists ``(y, half width)`` from top to bottom.

    ``tilt`` > 0 looks down on it: rings round the axis become arcs that sag by that much.
    """
    x, y = grid()
    ys, widths = np.array(profile, np.float32).T
    widest = float(widths.max())
    along = y - tilt * np.sqrt(np.maximum(1 - (x / widest) ** 2, 0)) if tilt else y
    rows = np.linspace(-1.5, 1.5, 1025, dtype=np.float32)
    table = np.interp(rows, ys, widths, left=0, right=0).astype(np.float32)
    half = table[np.clip((along + 1.5) * (1024 / 3) + 0.5, 0, 1024).astype(np.intp)]
    mask = np.clip((half - np.abs(x)) * (SIDE / 2) + 0.5, 0, 1) * (half > 0)
    ratio = np.clip(x / np.maximum(half, 1e-3), -1, 1)
    height = half * np.sqrt(1 - ratio * ratio) * (SIDE / 2)
    return Turned(mask, height, along, np.arcsin(ratio) * np.float32(2 / math.pi))


class Face(NamedTuple):
    """One side of a box: its corners (top left, clockwise), mask and height."""

    corners: NDArray[np.float64]
    mask: Field
    height: Field


def box(corner: Pair, a: Pair, b: Pair, c: Pair, steep: float = 0.5) -> list[Face]:
    """The three visible sides of a box: its nearest ``corner`` and the edges that leave it.

    Height falls along each edge at the same rate, so that the sides meet without a step and each side has
    a slope, hence a shade, of its own.
    """
    x, y = grid()
    origin, sides = np.asarray(corner, np.float64), []
    for u, v in ((a, b), (b, c), (c, a)):
        p, q = np.asarray(u, np.float64), np.asarray(v, np.float64)
        fall = np.linalg.solve(np.array([p, q]), -steep * np.array([np.hypot(*p), np.hypot(*q)]))
        corners = np.array([origin, origin + p, origin + p + q, origin + q])
        height = (60 + ((x - origin[0]) * fall[0] + (y - origin[1]) * fall[1]) * (SIDE / 2)).astype(np.float32)
        sides.append(Face(corners, polygon(corners), height))
    return sides


def wrap(image: Field, corners: Points) -> Field:
    """A (SIDE, SIDE[, 3]) picture in perspective upon four corners (top left, clockwise)."""
    source = np.array([(0, 0), (SIDE, 0), (SIDE, SIDE), (0, SIDE)], np.float32)
    target = ((np.asarray(corners, np.float64) + 1) * (SIDE / 2)).astype(np.float32)
    matrix = cv2.getPerspectiveTransform(source, target)
    wrapped: Field = cv2.warpPerspective(image, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
    return wrapped
