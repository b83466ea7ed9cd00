"""Paper: sheets, newspapers, envelopes, covers, crumpled balls, bags and torn scraps."""

import numpy as np

from training_host.data.waste.shapes import Points, dome, lump, polygon, ragged, rectangle, smooth, stroke
from training_host.data.waste.sprite import Sprite, scatter
from training_host.data.waste.texture import (
    Field,
    Rgb,
    blend,
    crumple,
    folds,
    grid,
    label,
    lettering,
    mottle,
    noise,
    ripples,
    tone,
    vivid,
    word,
)

_PRINTS: tuple[Rgb, ...] = ((0.9, 0.88, 0.84), (0.85, 0.87, 0.9), (0.6, 0.68, 0.75), (0.8, 0.72, 0.6))
_INK = np.array([0.12, 0.12, 0.15], np.float32)


def _white(rng: np.random.Generator) -> Field:
    tints = ((0.93, 0.92, 0.89), (0.93, 0.92, 0.89), (0.93, 0.92, 0.9), (0.88, 0.86, 0.8), (0.92, 0.88, 0.7))
    return tone(rng, tints[rng.integers(len(tints))], 0.04)


def _corners(rng: np.random.Generator, wide: float, high: float) -> Points:
    return ragged(rng, [(-wide, -high), (wide, -high), (wide, high), (-wide, high)], 0.06)


def _sheet(rng: np.random.Generator) -> Sprite:
    """A letter or a page from a pad: text or rules, folded once, a bit crumpled."""
    mask = polygon(_corners(rng, rng.uniform(0.55, 0.75), rng.uniform(0.75, 0.9)))
    sprite = Sprite()
    sprite.add(mask, _white(rng), height=_curl(rng) + crumple(rng, rng.uniform(30, 70), rng.uniform(1, 9)), gloss=0.03)
    if rng.random() < 0.7:
        sprite.decal(lettering(rng, rng.uniform(7, 11), 0.22, 0.76) * (np.abs(grid()[1]) < 0.65), _INK)
    else:
        rules = (ripples(rng.uniform(9, 14), np.pi / 2) > 0.8).astype(np.float32)
        sprite.decal(rules * 0.6, vivid(rng, 0.4, 0.7))
    return sprite


def _curl(rng: np.random.Generator) -> Field:
    """A sheet that lifts off the table, with the crease of an old fold."""
    x, y = grid()
    axis = y if rng.random() < 0.5 else x
    return rng.uniform(2, 14) * (x * rng.uniform(-1, 1) + y * 0.5) ** 2 + rng.uniform(0, 14) * np.abs(axis)


def _ball(rng: np.random.Generator) -> Sprite:
    """A crumpled ball; every third one was printed."""
    mask = polygon(ragged(rng, lump(rng, 0.62, 0.15, 11), 0.02))
    sprite = Sprite()
    relief = dome(mask, 45, 70) + crumple(rng, rng.uniform(25, 45), 12)
    sprite.add(mask, mottle(_white(rng), noise(rng, 30), 0.06), height=relief, gloss=0.03)
    if rng.random() < 0.35:
        sprite.decal(lettering(rng, 8) * (noise(rng, 50) > -0.2), _INK)
    return sprite


def _newspaper(rng: np.random.Generator) -> Sprite:
    """Grey page, headline, a picture and three columns, folded in the middle."""
    sprite = Sprite()
    mask = polygon(_corners(rng, 0.78, rng.uniform(0.6, 0.9)))
    sprite.add(mask, tone(rng, (0.76, 0.74, 0.69), 0.05), height=_curl(rng) + crumple(rng, 60, 4), gloss=0.02)
    x, _ = grid()
    columns = (np.abs((x + 1) * 2.1 % 1 - 0.5) < 0.44).astype(np.float32)
    sprite.decal(lettering(rng, 5, 0.16, 0.98) * columns * rectangle(-0.7, -0.35, 0.7, 0.85), _INK)
    sprite.decal(word(rng, (-0.6, -0.4), 0.2), _INK)
    at = rng.uniform(-0.6, 0.1), rng.uniform(-0.25, 0.2)
    sprite.decal(
        rectangle(at[0], at[1], at[0] + 0.5, at[1] + 0.35), mottle(tone(rng, (0.4, 0.4, 0.42)), noise(rng, 9), 0.4)
    )
    return sprite


def _envelope(rng: np.random.Generator) -> Sprite:
    """Either side of an envelope: the flap, or a window and a stamp."""
    sprite = Sprite()
    colour = tone(rng, (0.72, 0.58, 0.4), 0.04) if rng.random() < 0.25 else _white(rng)
    sprite.add(polygon(_corners(rng, 0.85, 0.52)), colour, height=_curl(rng) * 0.5 + noise(rng, 60), gloss=0.05)
    if rng.random() < 0.5:
        flap = polygon([(-0.85, -0.55), (0.85, -0.55), (rng.uniform(-0.1, 0.1), 0.15)])
        sprite.decal(flap, colour * 0.93)
        sprite.emboss(flap * 3)
    else:
        sprite.decal(rectangle(-0.65, 0.0, 0.05, 0.3), tone(rng, (0.75, 0.8, 0.82)), gloss=0.5)
        sprite.decal(rectangle(0.52, -0.42, 0.74, -0.14), vivid(rng))
        sprite.decal(lettering(rng, 9, 0.2, 0.5) * rectangle(-0.65, 0.05, 0.0, 0.25), _INK)
    return sprite


def _cover(rng: np.random.Generator) -> Sprite:
    """A magazine or a flyer: glossy print to the edge, more pages below."""
    sprite, corners = Sprite(), _corners(rng, 0.6, 0.8)
    for page in range(3):
        sprite.add(polygon(np.asarray(corners) + 0.02 * page), _white(rng) * 0.9, height=2.0)
    image = blend(label(rng, _PRINTS), vivid(rng), np.clip(noise(rng, 40) * 2, 0, 1))
    sprite.add(polygon(corners), image, height=4 + _curl(rng), gloss=0.35)
    sprite.decal(word(rng, (-0.55, -0.45), 0.3), _white(rng))
    return sprite


def _bag(rng: np.random.Generator) -> Sprite:
    """A bag from the bakery, white or kraft, with a zigzag mouth."""
    zigzag = [(x, -0.8 + 0.05 * (i % 2)) for i, x in enumerate(np.linspace(0.5, -0.5, 15))]
    mask = polygon([*ragged(rng, [(-0.55, 0.8), (0.55, 0.8)], 0.05), *zigzag])
    kraft = rng.random() < 0.25
    sprite = Sprite()
    colour = tone(rng, (0.7, 0.54, 0.36), 0.04) if kraft else _white(rng)
    sprite.add(mask, colour, height=dome(mask, 18, 40) + crumple(rng, 45, 10), gloss=0.05)
    if rng.random() < 0.6:
        sprite.decal(word(rng, (-0.4, 0.2), 0.2), vivid(rng, 0.1, 0.6))
    return sprite


def _scrap(rng: np.random.Generator) -> Sprite:
    mask = polygon(ragged(rng, lump(rng, 0.7, 0.3, 7, rng.uniform(0.7, 1.3)), 0.03))
    sprite = Sprite()
    sprite.add(mask, _white(rng), height=2 + crumple(rng, 60, 6), gloss=0.03)
    sprite.decal(lettering(rng, rng.uniform(8, 16), 0, 1), _INK)
    return sprite


def _scraps(rng: np.random.Generator) -> Sprite:
    return scatter(rng, _scrap, int(rng.integers(3, 6)), 0.5, 0.45)


def _tissue(rng: np.random.Generator) -> Sprite:
    """A napkin: soft folds, no print."""
    mask = polygon(smooth(lump(rng, 0.7, 0.25, 6)[::6], 6))
    sprite = Sprite()
    sprite.add(mask, tone(rng, (0.93, 0.93, 0.92), 0.03), height=dome(mask, 14, 30) + folds(rng, 45, 6), gloss=0.0)
    sprite.decal(stroke(lump(rng, 0.5, 0.2, 6), 0.015), tone(rng, (0.8, 0.8, 0.8)))
    return sprite


_KINDS = (_sheet,) * 6 + (_ball,) * 3 + (_newspaper,) * 4 + (_envelope, _envelope, _cover, _bag, _scraps, _tissue)


def draw(rng: np.random.Generator) -> Sprite:
    """Any piece of waste paper."""
    return _KINDS[rng.integers(len(_KINDS))](rng)
