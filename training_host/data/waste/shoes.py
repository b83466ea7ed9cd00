"""Shoes: sneakers, boots and heels from the side, loafers, flip-flops and soles from above; single or in pairs."""

import math

import numpy as np

from training_host.data.waste.shapes import dome, ellipse, polygon, ragged, rectangle, smooth, stroke
from training_host.data.waste.sprite import Draw, Sprite, place
from training_host.data.waste.texture import (
    SIDE,
    Field,
    Rgb,
    fractal,
    grid,
    mottle,
    noise,
    pick,
    ripples,
    tone,
    vivid,
    weave,
)

_LEATHERS: tuple[Rgb, ...] = ((0.1, 0.1, 0.1), (0.16, 0.16, 0.18), (0.2, 0.19, 0.19), (0.36, 0.23, 0.14))

_MIRROR = np.array([[-1.0, 0, SIDE], [0, 1, 0], [0, 0, 1]])  # left shoes to right ones


def _upper(rng: np.random.Generator) -> Field:
    """Leather or mesh as a (SIDE, SIDE, 3) image."""
    colour = pick(rng, _LEATHERS, odd=0.06)
    grain = weave(4, 0.5) if rng.random() < 0.4 else fractal(rng, 8, 2) * 0.7
    return mottle(colour, grain + 0.5 * noise(rng, 50), 0.09)


def _sneaker(rng: np.random.Generator) -> Sprite:
    """A trainer from the side: thick pale sole, laces, a stripe, a collar that opens upwards."""
    ankle = rng.uniform(-0.55, -0.25)
    outline = smooth(
        [
            (-0.85, 0.25),
            (-0.82, ankle),
            (-0.55, ankle - 0.06),
            (-0.3, ankle + 0.12),
            (0.1, -0.12),
            (0.55, 0.06),
            (0.9, 0.2),
            (0.9, 0.4),
            (-0.85, 0.4),
        ],
        6,
    )
    upper = polygon(outline)
    sprite, skin = Sprite(), _upper(rng)
    sprite.add(upper, skin, height=dome(upper, 30, 38) + noise(rng, 30) * 2, gloss=0.15)
    sprite.decal(ellipse(-0.58, ankle, 0.26, 0.09), tone(rng, (0.15, 0.15, 0.16)))
    for x in np.linspace(-0.32, 0.12, 5):
        y = ankle + 0.16 + (x + 0.32) * (0.02 - ankle) * 1.4
        sprite.add(
            stroke([(x - 0.06, y - 0.05), (x + 0.02, y + 0.12)], 0.035), tone(rng, (0.9, 0.9, 0.88), 0.05), height=34.0
        )
    accent = vivid(rng, 0.1, 0.85) if rng.random() < 0.6 else tone(rng, (0.92, 0.92, 0.9))
    sprite.decal(stroke([(-0.45, 0.3), (-0.1, 0.22), (rng.uniform(0.15, 0.4), -0.02)], 0.07), accent)
    sprite.decal(ellipse(0.85, 0.35, 0.3, 0.2) * (rng.random() < 0.5), skin * 0.8)
    sole = polygon(
        smooth(
            ragged(
                rng, [(-0.9, 0.32), (0, 0.36), (0.88, 0.3), (0.97, 0.42), (0.85, 0.56), (0, 0.56), (-0.9, 0.56)], 0.015
            ),
            5,
        )
    )
    pale = tone(rng, (0.9, 0.89, 0.86), 0.05) if rng.random() < 0.7 else tone(rng, (0.15, 0.15, 0.16), 0.05)
    sprite.add(sole, pale, height=dome(sole, 18, 12) + ripples(8, 0.0) * (grid()[1] > 0.47), gloss=0.1)
    return sprite


def _boot(rng: np.random.Generator) -> Sprite:
    """A boot: a shaft, a heel, a rubber sole; leather or rubber (then glossy)."""
    shaft, wide = rng.uniform(-0.9, -0.5), rng.uniform(0.3, 0.4)
    outline = smooth(
        [
            (-0.55, shaft),
            (-0.55 + 2 * wide, shaft + 0.03),
            (-0.5 + 1.8 * wide, -0.05),
            (0.45, 0.22),
            (0.7, 0.45),
            (0.68, 0.68),
            (-0.55, 0.68),
            (-0.58, 0.3),
        ],
        6,
    )
    upper = polygon(outline)
    rubber = rng.random() < 0.35
    sprite, skin = Sprite(), _upper(rng)
    sprite.add(upper, skin, height=dome(upper, 34, 45) + noise(rng, 40) * 3, gloss=0.9 if rubber else 0.25)
    sprite.decal(rectangle(-0.7, shaft - 0.1, 0.5, shaft + 0.06), skin * 0.55)
    if not rubber:
        for y in np.linspace(shaft + 0.18, 0.1, 5):
            x = -0.35 + 1.6 * wide + 0.35 * max(0.0, y + 0.1)
            sprite.add(stroke([(x - 0.2, y), (x, y + 0.06)], 0.035), tone(rng, (0.75, 0.65, 0.4), 0.08), height=36.0)
    sole = np.maximum(rectangle(-0.6, 0.66, 0.74, 0.76, 0.03), rectangle(-0.6, 0.66, -0.2, 0.88, 0.02))
    sprite.add(sole, tone(rng, (0.12, 0.1, 0.09), 0.04), height=dome(sole, 16, 10), gloss=0.1)
    return sprite


def _heel(rng: np.random.Generator) -> Sprite:
    """A pump with a heel, from the side."""
    outline = smooth(
        [
            (-0.75, -0.35),
            (-0.5, -0.15),
            (-0.1, 0.2),
            (0.35, 0.28),
            (0.85, 0.42),
            (0.88, 0.56),
            (0.3, 0.56),
            (-0.2, 0.35),
            (-0.55, 0.05),
            (-0.8, 0.0),
        ],
        6,
    )
    upper, sprite = polygon(outline), Sprite()
    skin = _upper(rng)
    sprite.add(
        polygon([(-0.82, -0.05), (-0.55, 0.05), (-0.66, 0.58), (-0.74, 0.58)]), skin * 0.8, height=14.0, gloss=0.4
    )
    sprite.add(upper, skin, height=dome(upper, 26, 24), gloss=0.6)
    sprite.decal(stroke(smooth([(-0.7, -0.3), (-0.4, 0.0), (0.0, 0.27), (0.3, 0.32)], 4)[:-4], 0.05), skin * 0.4)
    return sprite


def _footprint(rng: np.random.Generator, grow: float = 1.0) -> Field:
    """The outline of a foot from above, toes up."""
    outline = smooth(
        [
            (0.05, -0.9),
            (0.32, -0.65),
            (0.34, -0.2),
            (0.22, 0.25),
            (0.27, 0.7),
            (0.05, 0.9),
            (-0.2, 0.75),
            (-0.22, 0.3),
            (-0.3, -0.25),
            (-0.24, -0.7),
        ],
        6,
    )
    return polygon((outline - (0.02, 0)) * grow + (0.02, 0))


def _above(rng: np.random.Generator) -> Sprite:
    """A loafer or trainer from above: the vamp, laces and the dark opening."""
    sprite, skin = Sprite(), _upper(rng)
    sprite.add(_footprint(rng), tone(rng, (0.85, 0.84, 0.8) if rng.random() < 0.5 else (0.14, 0.13, 0.12)), height=6.0)
    upper = _footprint(rng, 0.93)
    sprite.add(upper, skin, height=8 + dome(upper, 30, 30), gloss=0.25)
    sprite.add(ellipse(0.03, 0.42, 0.18, 0.36), skin * 0.25, height=14.0, gloss=0.0)
    sprite.decal(ellipse(0.03, 0.5, 0.12, 0.24), tone(rng, (0.55, 0.45, 0.35), 0.1), gloss=0.0)
    if rng.random() < 0.6:
        for y in np.linspace(-0.35, 0.02, 4):
            sprite.add(
                stroke([(-0.12, y - 0.04), (0.16, y + 0.04)], 0.035), tone(rng, (0.9, 0.9, 0.88), 0.08), height=42.0
            )
    return sprite


def _flip_flop(rng: np.random.Generator) -> Sprite:
    """A sandal from above: foam sole and a strap in a V."""
    sprite, sole = Sprite(), _footprint(rng)
    sprite.add(sole, mottle(_upper(rng).mean((0, 1)), ripples(7, 0.7), 0.06), height=dome(sole, 12, 8), gloss=0.05)
    strap = smooth([(0.03, -0.45), (0.3, -0.05), (0.28, 0.05), (0.03, -0.35), (-0.26, 0.05), (-0.28, -0.05)], 5)
    mask = polygon(strap)
    sprite.add(mask, _upper(rng), height=20 + dome(mask, 10, 7), gloss=0.3)
    return sprite


def _sole(rng: np.random.Generator) -> Sprite:
    """A shoe upside down: the tread."""
    sprite, sole = Sprite(), _footprint(rng)
    angle = rng.uniform(-0.3, 0.3)
    tread = np.sign(ripples(rng.uniform(10, 16), math.pi / 2 + angle, np.abs(grid()[0]) * 12 * rng.random()))
    colour = tone(rng, (0.2, 0.19, 0.18), 0.05) if rng.random() < 0.6 else tone(rng, (0.7, 0.55, 0.4), 0.1)
    sprite.add(sole, mottle(colour, tread.astype(np.float32), 0.15), height=dome(sole, 14, 10) + 2 * tread, gloss=0.15)
    return sprite


def _pair(rng: np.random.Generator, draw_one: Draw, gap: float) -> Sprite:
    """Two of the same: the second drawn with the same random numbers, mirrored where it is seen from above."""
    seed = int(rng.integers(1 << 30))
    result = Sprite()
    for side in (-1, 1):
        pose = place(
            side * gap, rng.uniform(-0.12, 0.12) + (0.25 * side if gap < 0.3 else 0), 0.72, rng.normal(0, 0.12)
        )
        if gap >= 0.3 and side < 0:
            pose = pose @ _MIRROR
        result.over(draw_one(np.random.default_rng(seed)).posed(pose, SIDE))
    return result


_SIDE_VIEWS = (_sneaker, _sneaker, _sneaker, _boot, _boot, _heel)
_TOP_VIEWS = (_above, _above, _flip_flop, _sole)


def draw(rng: np.random.Generator) -> Sprite:
    """Any shoe, or a pair."""
    from_side = rng.random() < 0.7
    views = _SIDE_VIEWS if from_side else _TOP_VIEWS
    one = views[rng.integers(len(views))]
    paired = rng.random() < (0.25 if from_side else 0.6)
    sprite = _pair(rng, one, 0.12 if from_side else 0.36) if paired else one(rng)
    return sprite.mirrored() if rng.random() < 0.5 else sprite
