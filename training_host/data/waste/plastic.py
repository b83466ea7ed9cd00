"""Plastic: bottles clear and opaque, bags, cups and tubs, trays, cutlery and caps."""

import numpy as np

from training_host.data.waste.shapes import dome, ellipse, lump, polygon, ragged, rectangle, smooth, stroke, turned
from training_host.data.waste.sprite import Sprite, scatter
from training_host.data.waste.texture import (
    HALF,
    SIDE,
    Field,
    Rgb,
    crumple,
    folds,
    label,
    noise,
    pick,
    tone,
    vivid,
    word,
)

_PRINTS: tuple[Rgb, ...] = ((0.12, 0.38, 0.8), (0.15, 0.5, 0.85), (0.1, 0.45, 0.75), (0.92, 0.92, 0.92))


def _resin(rng: np.random.Generator) -> Field:
    """Bright or white, as moulded things are."""
    return pick(rng, _PRINTS, odd=0.08)


def _bottle(rng: np.random.Generator) -> Sprite:
    """A drink bottle: thin clear wall, ribs, screw cap; often squeezed."""
    body, shoulder = rng.uniform(0.27, 0.36), rng.uniform(-0.55, -0.3)
    pet = turned(
        [
            (-0.86, 0.1),
            (-0.72, 0.11),
            (shoulder - 0.1, body * 0.75),
            (shoulder, body),
            (-0.05, body * 0.93),
            (0.1, body),
            (0.85, body),
            (0.93, body * 0.7),
        ],
        0.06,
    )
    tints = ((0.75, 0.9, 0.98), (0.65, 0.85, 0.98), (0.5, 0.75, 0.95), (0.7, 0.87, 0.97))
    tint = tone(rng, tints[rng.integers(4)], 0.04)
    ribs = 2.5 * np.sin(pet.along * rng.uniform(35, 60)) * (pet.along > shoulder)
    sprite = Sprite()
    clear = rng.uniform(0.55, 0.8)
    sprite.add(pet.mask, tint, height=pet.height + ribs + crumple(rng, 30, rng.uniform(0, 8)), gloss=0.8, clear=clear)
    if rng.random() < 0.65:
        top = rng.uniform(-0.3, 0.0)
        band = (pet.along > top) & (pet.along < top + rng.uniform(0.35, 0.55))
        sprite.decal(band.astype(np.float32), label(rng, _PRINTS), gloss=0.4)
    if rng.random() < 0.75:
        cap = rectangle(-0.13, -0.95, 0.13, -0.8, 0.03)
        sprite.add(
            cap, _resin(rng), height=28 * (1 - (np.abs(pet.around)) ** 2) + 2 * np.sin(pet.around * 30), gloss=0.4
        )
    return sprite


def _canister(rng: np.random.Generator) -> Sprite:
    """Detergent or shampoo: an opaque body with a label and a cap of another colour."""
    wide = rng.uniform(0.36, 0.52)
    half = [(0.14, -0.6), (wide, -0.38), (wide * rng.uniform(0.85, 1), 0.1), (wide, 0.8), (wide * 0.8, 0.9)]
    outline = smooth(half + [(-x, y) for x, y in reversed(half)], 6)
    body = polygon(outline)
    sprite, colour = Sprite(), _resin(rng)
    sprite.add(body, colour, height=dome(body, 38, 45) + noise(rng, 60), gloss=0.6)
    if rng.random() < 0.35:  # a grip
        sprite.cut(ellipse(wide * 0.5, -0.18, 0.09, 0.2))
    cap = rectangle(-0.16, -0.93, 0.16, -0.55, 0.05)
    sprite.add(cap, _resin(rng), height=dome(cap, 24, 18), gloss=0.6)
    sprite.decal(rectangle(-wide * 0.75, 0.05, wide * 0.75, 0.65, 0.08), label(rng, _PRINTS), gloss=0.4)
    return sprite


def _bag(rng: np.random.Generator) -> Sprite:
    """A carrier bag: thin, wrinkled, half see-through, with two handles."""
    mask = polygon(
        smooth(
            ragged(
                rng, [(-0.6, -0.35), (0, -0.3), (0.6, -0.35), (0.72, 0.4), (0.4, 0.8), (-0.4, 0.8), (-0.72, 0.4)], 0.09
            ),
            5,
        )
    )
    for x in (-0.4, 0.4):
        arch = smooth([(x - 0.14, -0.2), (x - 0.1, -0.75), (x + 0.1, -0.75), (x + 0.14, -0.2)], 6)
        mask = np.maximum(mask, stroke(ragged(rng, arch, 0.01), 0.1, True))
    colour = tone(rng, (0.93, 0.93, 0.93), 0.03) if rng.random() < 0.3 else _resin(rng)
    sprite = Sprite()
    relief = dome(mask, 16, 40) + crumple(rng, 30, 14) + folds(rng, 30, 4)
    sprite.add(mask, colour, height=relief, gloss=0.75, clear=rng.uniform(0.15, 0.55))
    if rng.random() < 0.5:
        sprite.decal(word(rng, (-0.45, 0.3), 0.25) * 0.85, vivid(rng, 0.1, 0.8))
    return sprite


def _film(rng: np.random.Generator) -> Sprite:
    """A sheet of wrapping film: nearly clear, only its creases show."""
    mask = polygon(ragged(rng, lump(rng, 0.7, 0.2, 9), 0.02))
    sprite = Sprite()
    sprite.add(
        mask,
        tone(rng, (0.92, 0.94, 0.95), 0.04),
        height=crumple(rng, 45, 14),
        gloss=1.0,
        clear=rng.uniform(0.5, 0.75),
    )
    return sprite


def _tub(rng: np.random.Generator) -> Sprite:
    """A cup or a tub: wider at the top, a rolled rim, print or clear wall."""
    top, bottom, high, tilt = rng.uniform(0.42, 0.62), rng.uniform(0.3, 0.4), rng.uniform(0.45, 0.75), 0.15
    cup = turned([(-high, top), (high, bottom)], tilt)
    see = rng.random() < 0.4
    colour = tone(rng, (0.92, 0.93, 0.94), 0.03) if see else _resin(rng)
    clear = rng.uniform(0.5, 0.75) if see else 0.0
    ribs = 2 * np.sin(cup.around * 40) if rng.random() < 0.4 else 1.5 * np.sin(cup.along * 30)
    sprite = Sprite()
    sprite.add(cup.mask, colour, height=cup.height + ribs, gloss=0.6, clear=clear)
    if rng.random() < 0.5:
        sprite.decal((np.abs(cup.along) < high * 0.6).astype(np.float32), label(rng, _PRINTS), gloss=0.4)
    sprite.add(ellipse(0, -high, top + 0.03, tilt + 0.02), colour, height=top * HALF + 6, gloss=0.6, clear=clear)
    sprite.add(
        ellipse(0, -high, top * 0.93, tilt * 0.85), colour * 0.7, height=top * 0.85 * HALF, gloss=0.2, clear=clear
    )
    return sprite


def _tray(rng: np.random.Generator) -> Sprite:
    """A food tray from above: a rim, a slope and a ribbed floor."""
    wide, high = rng.uniform(0.65, 0.85), rng.uniform(0.45, 0.65)
    rim, floor = (
        rectangle(-wide, -high, wide, high, 0.15),
        rectangle(-wide + 0.16, -high + 0.16, wide - 0.16, high - 0.16, 0.1),
    )
    black = rng.random() < 0.2
    colour = tone(rng, (0.12, 0.12, 0.13), 0.03) if black else tone(rng, (0.8, 0.9, 0.95), 0.05)
    relief = dome(rim, 20, 8) - 16 * dome(floor, 1.0, 14) + 1.5 * np.sin(np.arange(SIDE) * 0.35) * floor
    sprite = Sprite()
    sprite.add(rim, colour, height=relief.astype(np.float32), gloss=0.7, clear=0.0 if black else rng.uniform(0, 0.75))
    return sprite


def _utensil(rng: np.random.Generator) -> Sprite:
    """A throw-away spoon, a straw or a cap."""
    sprite, colour, kind = Sprite(), _resin(rng), rng.integers(3)
    if kind == 0:
        mask: Field = np.maximum(stroke([(0, -0.3), (0, 0.9)], 0.12), ellipse(0, -0.55, 0.22, 0.32))
        relief = dome(mask, 8, 8) - 7.0 * ellipse(0, -0.57, 0.16, 0.24)
    elif kind == 1:
        mask = stroke([(rng.uniform(-0.3, 0.3), -0.95), (0, -0.5), (0, 0.95)], 0.11)
        relief = dome(mask, 9, 6)
    else:
        mask = ellipse(0, 0, 0.4, 0.4)
        relief = dome(mask, 18, 12) - 8 * ellipse(0, 0, 0.28, 0.28)
    sprite.add(mask, colour, height=relief, gloss=0.6)
    return sprite


def _utensils(rng: np.random.Generator) -> Sprite:
    return scatter(rng, _utensil, int(rng.integers(3, 6)), 0.6, 0.35)


_KINDS = (_bottle,) * 6 + (_canister,) * 6 + (_bag, _bag, _film, _tub, _tray, _utensils)


def draw(rng: np.random.Generator) -> Sprite:
    """Any piece of plastic packaging."""
    return _KINDS[rng.integers(len(_KINDS))](rng)
