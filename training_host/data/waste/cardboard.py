"""Cardboard: boxes, torn panels with their flutes, tubes, egg trays and printed cartons."""

import numpy as np

from training_host.data.waste.shapes import box, ellipse, polygon, ragged, rectangle, stroke, turned, wrap
from training_host.data.waste.sprite import Sprite
from training_host.data.waste.texture import (
    Field,
    Rgb,
    crumple,
    fractal,
    grid,
    label,
    lettering,
    mottle,
    noise,
    ripples,
    stack,
    tone,
    word,
)

_PRINTS: tuple[Rgb, ...] = ((0.66, 0.5, 0.33), (0.72, 0.56, 0.38), (0.8, 0.72, 0.58), (0.45, 0.28, 0.16))
_DARK = np.array([0.2, 0.14, 0.1], np.float32)


def _brown(rng: np.random.Generator) -> Field:
    """A board surface: kraft brown with fibres and stains."""
    shades = ((0.66, 0.5, 0.33), (0.72, 0.56, 0.38), (0.58, 0.43, 0.29))
    return mottle(tone(rng, shades[rng.integers(3)], 0.04), fractal(rng, 60, 3) + 0.6 * noise(rng, (14, 2)), 0.05)


def _panel(rng: np.random.Generator) -> Sprite:
    """A flap torn off a box: a smooth face, and a torn rim where the flutes lie bare."""
    wide, high = rng.uniform(0.6, 0.9), rng.uniform(0.45, 0.8)
    edge = np.array([(-wide, -high), (0, -high), (wide, -high), (wide, high), (0, high), (-wide, high)])
    outline = ragged(rng, edge, 0.1)
    flutes = ripples(rng.uniform(7, 10), 0.02)
    board = _brown(rng)
    sprite = Sprite()
    sprite.add(polygon(outline), mottle(board.mean((0, 1)) * 0.9, flutes, 0.16), height=flutes * 1.6, gloss=0.02)
    face = polygon(ragged(rng, outline * (0.97, rng.uniform(0.75, 0.97)), 0.05))
    bend = rng.uniform(0, 25) * np.abs(grid()[0] - rng.uniform(-0.4, 0.4))
    sprite.add(face, board, height=4 + bend + flutes * 0.25 + crumple(rng, 60, 3), gloss=0.03)
    _marks(rng, sprite)
    return sprite


def _marks(rng: np.random.Generator, sprite: Sprite) -> None:
    """What parcels carry: tape, a shipping label, a stamped word."""
    if rng.random() < 0.4:
        y = rng.uniform(-0.3, 0.3)
        tape = tone(rng, (0.72, 0.6, 0.42)) if rng.random() < 0.7 else tone(rng, (0.85, 0.83, 0.8))
        sprite.decal(rectangle(-1, y - 0.09, 1, y + 0.09) * 0.8, tape, gloss=0.7)
    if rng.random() < 0.3:
        x, y = rng.uniform(-0.5, 0.1, 2)
        sprite.decal(rectangle(x, y, x + 0.45, y + 0.35), tone(rng, (0.92, 0.92, 0.9), 0.03), gloss=0.2)
        sprite.decal(rectangle(x, y, x + 0.45, y + 0.35) * lettering(rng, 6, 0, 1), _DARK)
    if rng.random() < 0.4:
        sprite.decal(word(rng, (-0.4, rng.uniform(-0.2, 0.4)), rng.uniform(0.15, 0.3)), _DARK)


def _parcel(rng: np.random.Generator, printed: bool = False) -> Sprite:
    """A closed or a gaping box, seen at a corner."""
    left, right = (
        (-rng.uniform(0.5, 0.75), -rng.uniform(0.15, 0.35)),
        (rng.uniform(0.5, 0.75), -rng.uniform(0.15, 0.35)),
    )
    down = (0.0, rng.uniform(0.4, 0.75))
    corner = (rng.uniform(-0.15, 0.15), -0.05)
    sprite = Sprite()
    board = _brown(rng)
    top, front, side = box(corner, left, right, down, 0.45)
    for face in (top, front, side):
        skin = wrap(label(rng, _PRINTS), face.corners) if printed else board
        sprite.add(face.mask, skin, height=face.height + noise(rng, 60), gloss=0.2 if printed else 0.03)
    middle = np.asarray(corner) + np.asarray(right) * 0.5
    if not printed and rng.random() < 0.4:  # open: the dark inside and a flap that hangs out
        inside = (top.corners - top.corners.mean(0)) * 0.9 + top.corners.mean(0)
        sprite.add(polygon(inside), board * 0.45, height=30.0, gloss=0.0)
        flap = np.array([top.corners[0], top.corners[1], top.corners[1] + (-0.1, 0.35), top.corners[0] + (-0.1, 0.35)])
        sprite.add(polygon(flap), board * 1.05, height=62 + 30 * grid()[0], gloss=0.03)
    elif not printed:
        line = [middle, middle + np.asarray(left)]
        sprite.decal(stroke(line, 0.13) * top.mask * 0.85, tone(rng, (0.75, 0.62, 0.42)), gloss=0.7)
        sprite.decal(stroke(line, 0.012) * top.mask, _DARK)
    if rng.random() < 0.5:
        sprite.decal(wrap(lettering(rng, 18, 0.2, 0.7), front.corners) * (rng.random() < 0.5), _DARK)
    return sprite


def _carton(rng: np.random.Generator) -> Sprite:
    """A printed carton: cereal or shoes."""
    return _parcel(rng, printed=True)


def _tube(rng: np.random.Generator) -> Sprite:
    """The core of a roll, with its spiral seam."""
    radius, half = rng.uniform(0.25, 0.42), rng.uniform(0.55, 0.8)
    tube = turned([(-half, radius), (half, radius)], 0.13)
    sprite = Sprite()
    seam = np.abs((tube.along * 1.6 + tube.around * 0.6) % 1 - 0.5) < 0.02
    skin = _brown(rng) * stack(1 - np.float32(0.3) * seam)
    sprite.add(tube.mask, skin, height=tube.height + noise(rng, 40) * 2, gloss=0.04)
    sprite.add(ellipse(0, -half, radius, 0.13), skin * 0.95, height=radius * 100, gloss=0.0)
    sprite.add(ellipse(0, -half + 0.01, radius * 0.88, 0.105), skin * 0.4, height=radius * 80, gloss=0.0)
    return sprite


def _egg_tray(rng: np.random.Generator) -> Sprite:
    """Grey or brown pulp with rows of cups."""
    x, y = grid()
    mask = rectangle(-0.85, -0.6, 0.85, 0.6, 0.1)
    pitch = rng.uniform(7.5, 10)
    cups = np.sqrt(np.abs(np.sin(x * pitch) * np.sin(y * pitch)))
    colour = tone(rng, (0.55, 0.53, 0.5), 0.05) if rng.random() < 0.3 else tone(rng, (0.62, 0.5, 0.36), 0.05)
    sprite = Sprite()
    sprite.add(mask, mottle(colour, cups + fractal(rng, 12, 2) * 0.4, 0.2), height=18 * cups + noise(rng, 4), gloss=0.0)
    return sprite


def _flattened(rng: np.random.Generator) -> Sprite:
    """A box cut open and laid flat: a cross of panels with creases."""
    sprite = Sprite()
    w, h = rng.uniform(0.3, 0.45), rng.uniform(0.3, 0.42)
    flutes = ripples(rng.uniform(7, 10), 0.0) * 0.3
    mask = np.maximum(rectangle(-0.92, -h, 0.92, h, 0.02), rectangle(-w, -0.9, w, 0.9, 0.02))
    crease = np.maximum(stroke([(-w, -h), (w, -h), (w, h), (-w, h)], 0.03, True), stroke([(-0.92, 0), (0.92, 0)], 0.01))
    bend = rng.uniform(5, 25) * (np.maximum(np.abs(grid()[0]) - w, 0) + np.maximum(np.abs(grid()[1]) - h, 0))
    sprite.add(mask, _brown(rng) * stack(1 - 0.25 * crease), height=3 + bend + flutes - 2 * crease, gloss=0.03)
    _marks(rng, sprite)
    return sprite


_KINDS = (_panel,) * 4 + (_parcel,) * 4 + (_flattened,) * 2 + (_carton, _tube, _egg_tray)


def draw(rng: np.random.Generator) -> Sprite:
    """Any piece of waste board."""
    return _KINDS[rng.integers(len(_KINDS))](rng)
