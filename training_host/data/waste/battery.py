"""Batteries: round cells alone and in groups, blocks, button cells, phone packs and car batteries."""

import numpy as np

from training_host.data.waste.shapes import box, dome, ellipse, rectangle, turned, wrap
from training_host.data.waste.sprite import Sprite, place, scatter
from training_host.data.waste.texture import (
    SIDE,
    Field,
    Rgb,
    blend,
    flat,
    grid,
    label,
    lettering,
    noise,
    pick,
    tone,
    word,
)

_BLACK: Rgb = (0.1, 0.1, 0.11)
_COPPER: Rgb = (0.75, 0.5, 0.25)
_STEEL: Rgb = (0.78, 0.78, 0.78)


def _colour(rng: np.random.Generator) -> Field:
    return pick(rng, (_BLACK,), 0.03, odd=0.1)


def _cell(rng: np.random.Generator) -> Sprite:
    """AA, AAA, C or D: a printed sleeve in two colours, steel ends and the button of the positive pole."""
    radius, half = rng.uniform(0.2, 0.36), rng.uniform(0.68, 0.82)
    profile = [(-half - 0.1, radius * 0.3), (-half - 0.01, radius * 0.3), (-half, radius), (half, radius)]
    cell = turned(profile, radius * 0.15)
    band = rng.uniform(-0.3, 0.25)  # where the copper top ends
    skin = flat(_colour(rng))
    skin[cell.along < band] = pick(rng, (_COPPER,))
    ends = (cell.along < -half + 0.03) | (cell.along > half - 0.04)
    skin[ends] = tone(rng, _STEEL, 0.04)
    sprite = Sprite()
    sprite.add(cell.mask, skin, height=cell.height, gloss=0.7, metal=0.45 + np.float32(0.5) * ends)
    light = tone(rng, (0.92, 0.9, 0.85), 0.03)
    turned_word = np.ascontiguousarray(np.rot90(word(rng, (-0.35, radius * 0.4), radius * 0.9)))
    sprite.decal(turned_word * (np.abs(cell.along) < half - 0.1), light)
    plus = np.maximum(
        rectangle(-0.07, -half + 0.16, 0.07, -half + 0.19), rectangle(-0.015, -half + 0.1, 0.015, -half + 0.25)
    )
    sprite.decal(plus, light)
    return sprite


def _cells(rng: np.random.Generator) -> Sprite:
    """A few loose cells, or a row of them."""
    if rng.random() < 0.25:
        return scatter(rng, _cell, int(rng.integers(2, 5)), 0.62, 0.42)
    seed, count = int(rng.integers(1 << 30)), int(rng.integers(2, 4))
    result = Sprite()
    for index in range(count):
        one = _cell(np.random.default_rng(seed))  # the same brand every time, as out of one pack
        flip = np.pi * (index % 2)
        result.over(one.posed(place((index - (count - 1) / 2) * 0.5, 0, 0.8, flip), SIDE))
    return result


def _block(rng: np.random.Generator) -> Sprite:
    """The 9 V block: a box with a band, and two snap terminals on the top."""
    sprite = Sprite()
    faces = box((0.1, -0.25), (-0.55, -0.14), (0.3, -0.18), (0.0, 0.95), 0.4)
    top, front, side = faces[0], faces[2], faces[1]
    body, band = _colour(rng), pick(rng, (_COPPER,))
    image = flat(body)
    image[:, : int(rng.integers(50, 110))] = band
    white = np.full(3, 0.9, np.float32)
    image = blend(image, white, np.ascontiguousarray(np.rot90(word(rng, (-0.5, 0.3), 0.35))))
    for face in (front, side):
        sprite.add(face.mask, wrap(image, face.corners), height=face.height, gloss=0.6, metal=0.35)
    sprite.add(top.mask, tone(rng, (0.16, 0.16, 0.17), 0.03), height=top.height, gloss=0.4)
    for along, size in ((0.3, 0.08), (0.7, 0.11)):
        x, y = top.corners[0] + (top.corners[1] - top.corners[0]) * along + (top.corners[3] - top.corners[0]) * 0.5
        stud = ellipse(x, y - 0.05, size, size * 0.7)
        sprite.add(stud, tone(rng, _STEEL), height=70 + dome(stud, 8, 6), gloss=0.9, metal=1.0)
    return sprite


def _button(rng: np.random.Generator) -> Sprite:
    """A button cell: a steel disc with a stepped rim and engraved letters."""
    sprite = Sprite()
    disc, face = ellipse(0, 0, 0.72, 0.72), ellipse(0, 0, 0.58, 0.58)
    brushed = noise(rng, (90, 2)) * 0.6
    sprite.add(
        disc,
        tone(rng, (0.8, 0.8, 0.8), 0.04),
        height=dome(disc, 14, 8) + dome(face, 6, 4) + brushed,
        gloss=0.8,
        metal=0.95,
    )
    sprite.decal(word(rng, (-0.38, 0.05), 0.22, 0.12) * 0.8, tone(rng, (0.3, 0.3, 0.3)), metal=0.5)
    sprite.decal(word(rng, (-0.3, 0.35), 0.14, 0.14) * 0.8, tone(rng, (0.3, 0.3, 0.3)), metal=0.5)
    sprite.decal(word(rng, (-0.1, -0.28), 0.2, 0.14) * 0.7, tone(rng, (0.35, 0.35, 0.35)), metal=0.5)
    return sprite


def _buttons(rng: np.random.Generator) -> Sprite:
    return scatter(rng, _button, int(rng.integers(2, 6)), 0.45, 0.45)


def _pack(rng: np.random.Generator) -> Sprite:
    """A phone or camera pack: a flat dark slab with small print and gold contacts."""
    sprite, wide = Sprite(), rng.uniform(0.42, 0.62)
    slab = rectangle(-wide, -0.8, wide, 0.8, 0.07)
    colour = tone(rng, (0.16, 0.16, 0.18), 0.05) if rng.random() < 0.7 else tone(rng, (0.75, 0.75, 0.76), 0.06)
    sprite.add(slab, colour, height=dome(slab, 12, 9), gloss=0.3, metal=0.15)
    light = tone(rng, (0.85, 0.85, 0.85), 0.05) if colour.mean() < 0.5 else tone(rng, _BLACK, 0.02)
    sprite.decal(lettering(rng, 8, 0.32, 0.7) * rectangle(-wide, 0.1, wide, 0.65), light)
    sprite.decal(word(rng, (-0.35, -0.1), 0.2), light)
    for index in range(4):
        x = -0.3 + 0.14 * index
        sprite.decal(rectangle(x, -0.78, x + 0.08, -0.66), tone(rng, (0.85, 0.7, 0.35), 0.03), gloss=0.8, metal=0.8)
    return sprite


def _car(rng: np.random.Generator) -> Sprite:
    """A car battery: a black or white box with two lead posts, a handle line and a label."""
    sprite = Sprite()
    faces = box((-0.05, -0.12), (-0.62, -0.25), (0.78, -0.28), (0.0, 0.7), 0.4)
    case = tone(rng, (0.13, 0.13, 0.14), 0.03) if rng.random() < 0.75 else tone(rng, (0.8, 0.8, 0.8))
    for face in faces:
        sprite.add(face.mask, case, height=face.height + noise(rng, 40), gloss=0.35)
    front = faces[1].corners
    sprite.decal(wrap(rectangle(-0.8, -0.6, 0.8, 0.6), front), wrap(label(rng, (_COPPER, _STEEL)), front))
    x, _ = grid()
    top = faces[0].corners
    for u, v, cap in ((0.25, 0.2, (0.7, 0.12, 0.1)), (0.25, 0.8, (0.15, 0.25, 0.6))):
        px, py = top[0] + (top[1] - top[0]) * u + (top[3] - top[0]) * v
        sprite.add(
            rectangle(px - 0.07, py - 0.15, px + 0.07, py + 0.03, 0.03),
            tone(rng, _STEEL),
            height=80 - 300 * (x - px) ** 2,
            gloss=0.7,
            metal=0.9,
        )
        sprite.add(ellipse(px, py + 0.04, 0.1, 0.04), tone(rng, cap), height=70.0, gloss=0.4)
    return sprite


_KINDS = (_cell,) * 8 + (_cells,) * 6 + (_block, _block, _button, _buttons, _pack, _car)


def draw(rng: np.random.Generator) -> Sprite:
    """Any battery."""
    return _KINDS[rng.integers(len(_KINDS))](rng)
