"""Residual waste: what fits no other bin. Wrappers, coated cups, nappies, butts, masks, sponges and mixed litter."""

import numpy as np

from training_host.data.waste.shapes import dome, ellipse, lump, polygon, ragged, rectangle, smooth, stroke, turned
from training_host.data.waste.sprite import Sprite, scatter
from training_host.data.waste.texture import (
    HALF,
    Rgb,
    crumple,
    flat,
    folds,
    fractal,
    grid,
    label,
    mottle,
    noise,
    pick,
    ripples,
    stack,
    tone,
    vivid,
)

_PRINTS: tuple[Rgb, ...] = ((0.85, 0.2, 0.5), (0.55, 0.2, 0.65), (0.8, 0.3, 0.6), (0.88, 0.65, 0.15))


def _wrapper(rng: np.random.Generator) -> Sprite:
    """A crisp or sweet wrapper: bright print on shiny, crumpled film with serrated ends."""
    wide, high = rng.uniform(0.4, 0.6), rng.uniform(0.6, 0.85)
    xs = np.linspace(-wide, wide, 17)
    teeth = 0.04 * (np.arange(17) % 2)
    outline = np.concatenate([np.stack([xs, -high + teeth], 1), np.stack([xs[::-1], high - teeth], 1)])
    mask = polygon(ragged(rng, outline, 0.02) + np.stack([0.08 * np.sin(outline[:, 1] * 4), 0 * xs.repeat(2)], 1))
    sprite = Sprite()
    relief = dome(mask, 22, 40) + crumple(rng, 35, 13)
    sprite.add(mask, label(rng, _PRINTS), height=relief, gloss=0.6, metal=rng.uniform(0.1, 0.5))
    ends = (np.abs(grid()[1]) > high - 0.12).astype(np.float32)
    sprite.decal(ends * 0.5, tone(rng, (0.75, 0.75, 0.75)), metal=0.7)
    return sprite


def _cup(rng: np.random.Generator) -> Sprite:
    """A coffee cup of coated board: a sleeve, often the lid, often stains."""
    top, bottom, tilt = rng.uniform(0.4, 0.5), rng.uniform(0.28, 0.34), 0.1
    cup = turned([(-0.6, top), (0.75, bottom)], tilt)
    sprite = Sprite()
    paint = label(rng, _PRINTS) if rng.random() < 0.4 else tone(rng, (0.9, 0.88, 0.84), 0.04)
    sprite.add(cup.mask, paint, height=cup.height + crumple(rng, 50, rng.uniform(0, 9)), gloss=0.2)
    if rng.random() < 0.6:
        band = ((cup.along > -0.3) & (cup.along < 0.35)).astype(np.float32)
        sprite.decal(band, tone(rng, (0.6, 0.45, 0.3), 0.06), gloss=0.03)
    stain = np.clip(fractal(rng, 40) - 0.8, 0, 0.6)
    sprite.decal(stain, tone(rng, (0.35, 0.22, 0.12)))
    if rng.random() < 0.6:
        lid = turned([(-0.72, top * 0.85), (-0.66, top * 0.9), (-0.6, top + 0.04), (-0.54, top + 0.04)], tilt)
        mask = np.maximum(lid.mask, ellipse(0, -0.7, top * 0.85, tilt))
        colour = tone(rng, (0.92, 0.92, 0.9), 0.03) if rng.random() < 0.6 else tone(rng, (0.1, 0.1, 0.1), 0.03)
        sprite.add(mask, colour, height=lid.height, gloss=0.5)
    else:
        sprite.add(ellipse(0, -0.6, top, tilt), tone(rng, (0.9, 0.88, 0.85)), height=top * HALF)
        sprite.add(ellipse(0, -0.59, top * 0.9, tilt * 0.8), tone(rng, (0.35, 0.24, 0.15)), height=top * 0.8 * HALF)
    return sprite


def _nappy(rng: np.random.Generator) -> Sprite:
    """A used nappy, rolled up or open: puffy white with tapes and a coloured print."""
    outline = smooth(
        [
            (-0.75, -0.6),
            (0.75, -0.6),
            (0.72, -0.3),
            (0.32, 0.0),
            (0.6, 0.4),
            (0.5, 0.65),
            (-0.5, 0.65),
            (-0.6, 0.4),
            (-0.32, 0.0),
            (-0.72, -0.3),
        ],
        6,
    )
    rolled = rng.random() < 0.5
    mask = polygon(lump(rng, 0.55, 0.1, 9, 1.35)) if rolled else polygon(ragged(rng, outline, 0.01))
    sprite = Sprite()
    relief = dome(mask, 34 if rolled else 18, 45) + folds(rng, 30, 5) + crumple(rng, 25, 4)
    sprite.add(mask, tone(rng, (0.92, 0.92, 0.91), 0.03), height=relief, gloss=0.08)
    stain = np.clip(fractal(rng, 60) - 0.35, 0, 0.7) * rng.random()
    sprite.decal(stain, tone(rng, (0.7, 0.58, 0.28), 0.08))
    for side in (-1, 1):
        sprite.decal(rectangle(side * 0.52 - 0.14, -0.5, side * 0.52 + 0.14, -0.38, 0.03), vivid(rng, 0.4, 0.85))
    return sprite


def _butt(rng: np.random.Generator) -> Sprite:
    """A cigarette end: speckled cork filter, bent white paper, ash."""
    bend = rng.uniform(-0.2, 0.2)
    mask = stroke([(0, -0.85), (0, 0), (bend, 0.8)], 0.24)
    _, y = grid()
    skin = flat(tone(rng, (0.9, 0.88, 0.84), 0.03))
    skin[y < 0.1] = tone(rng, (0.78, 0.52, 0.25), 0.05)
    skin[y > 0.62 + 0.1 * rng.random()] = tone(rng, (0.2, 0.19, 0.18), 0.03)
    sprite = Sprite()
    sprite.add(mask, skin * stack(1 + 0.1 * noise(rng, 5)), height=dome(mask, 16, 12) + crumple(rng, 20, 4), gloss=0.02)
    return sprite


def _butts(rng: np.random.Generator) -> Sprite:
    return scatter(rng, _butt, int(rng.integers(3, 7)), 0.5, 0.42)


def _mask(rng: np.random.Generator) -> Sprite:
    """A face mask: pleats and two ear loops."""
    sprite = Sprite()
    white = np.full(3, 0.92, np.float32)
    for side in (-1, 1):
        loop = smooth(
            [
                (side * 0.65, -0.35),
                (side * 0.95, -0.2 + rng.uniform(-0.2, 0.2)),
                (side * 0.9, 0.3),
                (side * 0.65, 0.35),
            ],
            6,
        )
        sprite.add(stroke(loop, 0.025, True), white, height=4.0)
    body = polygon(ragged(rng, [(-0.68, -0.42), (0.68, -0.42), (0.68, 0.42), (-0.68, 0.42)], 0.06))
    colours = ((0.6, 0.8, 0.78), (0.55, 0.78, 0.75), (0.9, 0.9, 0.9))
    pleats = ripples(30, np.pi / 2, noise(rng, 80) * 0.6)
    sprite.add(body, tone(rng, colours[rng.integers(3)], 0.04), height=8 + pleats * 3 + folds(rng, 60, 5), gloss=0.05)
    sprite.decal(rectangle(-0.66, -0.41, 0.66, -0.34) * 0.5, white)
    return sprite


def _sponge(rng: np.random.Generator) -> Sprite:
    """A worn sponge: coloured foam full of holes on a green scourer."""
    sprite = Sprite()
    sprite.add(
        rectangle(-0.72, -0.45, 0.72, 0.5, 0.06),
        tone(rng, (0.2, 0.36, 0.2), 0.04),
        height=8 + 2 * noise(rng, 3),
        gloss=0.0,
    )
    foam, pores = rectangle(-0.72, -0.5, 0.72, 0.34, 0.08), fractal(rng, 7, 2)
    colour = tone(rng, (0.88, 0.78, 0.25), 0.05) if rng.random() < 0.6 else vivid(rng, 0.3, 0.85)
    dirt = np.clip(fractal(rng, 50) * 0.5, 0, 0.6)
    sprite.add(foam, mottle(colour, pores, 0.14) * stack(1 - dirt), height=dome(foam, 22, 12) + 3 * pores, gloss=0.0)
    return sprite


def _toothbrush(rng: np.random.Generator) -> Sprite:
    """A toothbrush: handle, neck and bristles."""
    sprite, colour = Sprite(), vivid(rng, 0.15, 0.85)
    handle = np.maximum(stroke([(0, -0.9), (rng.uniform(-0.04, 0.04), 0.1)], 0.07), stroke([(0, 0.1), (0, 0.85)], 0.15))
    sprite.add(handle, colour, height=dome(handle, 10, 9), gloss=0.6)
    sprite.decal(stroke([(0, 0.2), (0, 0.75)], 0.05), tone(rng, (0.9, 0.9, 0.9)))
    tuft = rectangle(-0.02, -0.92, 0.16, -0.55, 0.01)
    sprite.add(
        tuft,
        mottle(tone(rng, (0.92, 0.92, 0.9)), ripples(4, np.pi / 2), 0.15),
        height=12 + ripples(5, np.pi / 2),
        gloss=0.1,
    )
    return sprite


def _crockery(rng: np.random.Generator) -> Sprite:
    """A broken plate: a glazed piece with a rim line and a bare fracture."""
    x, y = grid()
    whole = ellipse(0, 0, 0.82, 0.82) * polygon(
        ragged(rng, [(-1, -0.2), (-0.3, 0.1), (0.1, -0.1), (0.5, 0.3), (1, 0.1), (1, 1), (-1, 1)], 0.12)
    )
    r = np.hypot(x, y)
    sprite = Sprite()
    sprite.add(whole, tone(rng, (0.92, 0.91, 0.88), 0.03), height=10 + 10 * np.tanh((r - 0.55) * 14), gloss=0.7)
    sprite.decal((np.abs(r - 0.72) < 0.03).astype(np.float32), vivid(rng, 0.15, 0.6), gloss=0.7)
    return sprite


def _litter(rng: np.random.Generator) -> Sprite:
    """Sweepings: bits of film, paper, butts and wrappers together."""
    makers = (_wrapper, _butt, _scrap, _scrap, _mask, _toothbrush)
    return scatter(rng, lambda r: makers[r.integers(len(makers))](r), int(rng.integers(4, 7)), 0.48, 0.42)


def _scrap(rng: np.random.Generator) -> Sprite:
    """A dirty bit of paper, film or cloth."""
    mask = polygon(ragged(rng, lump(rng, 0.6, 0.3, 7), 0.03))
    colour = pick(rng, (*_PRINTS, (0.75, 0.72, 0.66)), odd=0.1)
    dirt = np.clip(fractal(rng, 30), 0, 0.8) * 0.7
    sprite = Sprite()
    sprite.add(
        mask,
        mottle(colour, -dirt, 1.0),
        height=4 + crumple(rng, 30, 12),
        gloss=rng.uniform(0, 0.6),
        clear=rng.uniform(0, 0.3),
    )
    return sprite


_KINDS = (
    (_wrapper,) * 6
    + (_litter,) * 6
    + (_cup, _cup, _mask, _mask, _butts, _butts, _nappy, _sponge, _toothbrush, _crockery)
)


def draw(rng: np.random.Generator) -> Sprite:
    """Anything for the residual bin."""
    return _KINDS[rng.integers(len(_KINDS))](rng)
