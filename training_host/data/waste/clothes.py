"""Clothes: shirts, trousers, socks, dresses, hats and heaps, in dyed and printed cloth."""

import math

import numpy as np

from training_host.data.waste.shapes import Points, dome, ellipse, lump, polygon, ragged, rectangle, smooth, stroke
from training_host.data.waste.sprite import Sprite, scatter
from training_host.data.waste.texture import (
    Field,
    Rgb,
    blend,
    folds,
    grid,
    label,
    mottle,
    noise,
    pick,
    ripples,
    threads,
    tone,
    weave,
)

_DYES: tuple[Rgb, ...] = ((0.18, 0.25, 0.5), (0.25, 0.35, 0.6), (0.6, 0.15, 0.2), (0.72, 0.3, 0.42), (0.45, 0.2, 0.45))


def _cloth(rng: np.random.Generator) -> Field:
    """Cloth as a (SIDE, SIDE, 3) image: plain, striped, checked or dotted, with its threads."""
    dye = pick(rng, _DYES, 0.06)
    image = mottle(dye, weave(rng.uniform(2.5, 5), rng.uniform(0, 1)) + 0.5 * noise(rng, 40), 0.09)
    pattern, angle = rng.random(), float(rng.choice([0, math.pi / 2, 0.1]))
    second, period = pick(rng, _DYES, 0.06), rng.uniform(14, 40)
    if pattern < 0.25:
        share = (ripples(period, angle, noise(rng, 60) * 0.5) > rng.uniform(-0.3, 0.7)).astype(np.float32)
    elif pattern < 0.4:
        share = 0.45 * (
            (ripples(period, angle) > 0.2).astype(np.float32) + (ripples(period, angle + math.pi / 2) > 0.2)
        )
    elif pattern < 0.5:
        share = (ripples(period, 0.4) * ripples(period, 0.4 + math.pi / 2) > 0.45).astype(np.float32)
    else:
        return image
    return blend(image, second, share)


def _garment(rng: np.random.Generator, outline: Points, depth: float = 7.0) -> Sprite:
    """Cloth cut to an outline, laid down in folds, a seam along its edge."""
    points = ragged(rng, outline, 0.035)
    mask = polygon(points)
    sprite = Sprite()
    relief = dome(mask, 9, 9) + folds(rng, rng.uniform(30, 60), depth * rng.uniform(0.5, 1.3))
    sprite.add(mask, _cloth(rng), height=relief + threads(), gloss=0.0)
    sprite.decal(stroke(points * 0.965, 0.012, True) * 0.4, np.full(3, 0.08, np.float32))
    return sprite


def _mirrored(half: list[tuple[float, float]]) -> Points:
    return half + [(-x, y) for x, y in reversed(half)]


def _shirt(rng: np.random.Generator) -> Sprite:
    """A T-shirt, a pullover or a shirt with buttons."""
    sleeve = rng.uniform(-0.25, 0.55)  # how far down the arm ends
    half = [
        (0.0, -0.6),
        (0.18, -0.75),
        (0.45, -0.68),
        (0.92, sleeve - 0.1),
        (0.68, sleeve + 0.1),
        (0.45, -0.25),
        (0.46, 0.8),
        (0.0, 0.82),
    ]
    sprite = _garment(rng, _mirrored(half))
    sprite.add(ellipse(0, -0.7, 0.18, 0.1), tone(rng, (0.2, 0.2, 0.22), 0.1), height=2.0, gloss=0.0)
    kind = rng.random()
    if kind < 0.35:
        sprite.decal(rectangle(-0.25, -0.35, 0.25, 0.15), label(rng, _DYES))
    elif kind < 0.6:
        sprite.decal(stroke([(0, -0.6), (0, 0.8)], 0.02), np.full(3, 0.1, np.float32))
        for y in np.linspace(-0.45, 0.65, 6):
            sprite.decal(ellipse(0.03, y, 0.025, 0.025), tone(rng, (0.9, 0.9, 0.88)), gloss=0.4)
    return sprite


def _trousers(rng: np.random.Generator) -> Sprite:
    """Jeans or shorts: a waistband, two legs, pockets."""
    hem = rng.uniform(0.2, 0.92)
    half = [(0.0, -0.85), (0.4, -0.87), (0.5, -0.3), (0.5 + 0.1 * hem, hem), (0.2, hem + 0.03), (0.0, -0.15)]
    sprite = _garment(rng, _mirrored(half), 5)
    dark = np.full(3, 0.12, np.float32)
    sprite.decal(stroke([(-0.5, -0.73), (0.5, -0.73)], 0.02) * 0.7, dark)
    for side in (-1, 1):
        sprite.decal(stroke([(side * 0.16, -0.72), (side * 0.25, -0.58), (side * 0.45, -0.55)], 0.02) * 0.7, dark)
    sprite.decal(stroke([(0, -0.85), (0, -0.2)], 0.02) * 0.7, dark)
    return sprite


def _dress(rng: np.random.Generator) -> Sprite:
    """A dress or a skirt."""
    top = rng.uniform(-0.85, -0.4)
    half = [
        (0.0, top + 0.1),
        (0.16, top),
        (0.28, top + 0.02),
        (0.22, -0.15),
        (rng.uniform(0.5, 0.75), 0.8),
        (0.0, 0.86),
    ]
    return _garment(rng, _mirrored(half), 8)


def _sock(rng: np.random.Generator) -> Sprite:
    """A sock: leg, heel, foot, and a ribbed cuff."""
    outline = smooth(
        [
            (-0.3, -0.85),
            (0.12, -0.85),
            (0.14, -0.1),
            (0.2, 0.2),
            (0.65, 0.45),
            (0.72, 0.68),
            (0.5, 0.8),
            (-0.1, 0.62),
            (-0.32, 0.3),
            (-0.3, -0.3),
        ],
        6,
    )
    sprite = _garment(rng, outline, 4)
    _, y = grid()
    cuff = np.clip((-0.6 - y) * 40, 0, 1)
    sprite.decal(cuff * 0.8, pick(rng, _DYES))
    sprite.emboss(cuff * ripples(7, 0.0) * 1.5)
    return sprite


def _socks(rng: np.random.Generator) -> Sprite:
    return scatter(rng, _sock, int(rng.integers(1, 4)), 0.7, 0.35)


def _heap(rng: np.random.Generator) -> Sprite:
    """Clothes thrown on a heap: two or three kinds of cloth in deep folds."""
    sprite = Sprite()
    for layer in range(int(rng.integers(1, 4))):
        centre = rng.normal(0, 0.12 * (layer > 0), 2)
        mask = polygon(lump(rng, 0.75 - 0.15 * layer, 0.18, 9, centre=(centre[0], centre[1])))
        relief = 12 * layer + dome(mask, 22, 35) + folds(rng, rng.uniform(35, 70), 12)
        sprite.add(mask, _cloth(rng), height=relief + threads(), gloss=0.0)
    return sprite


def _folded(rng: np.random.Generator) -> Sprite:
    """A folded towel, scarf or pullover: a soft rectangle with edges of the layers."""
    sprite, wide, high = Sprite(), rng.uniform(0.5, 0.75), rng.uniform(0.45, 0.7)
    cloth = _cloth(rng)
    for layer in range(3):
        mask = rectangle(-wide, -high + 0.05 * layer, wide, high - 0.08 * (2 - layer), 0.1)
        sprite.add(
            mask, cloth * (0.8 + 0.1 * layer), height=8 * layer + dome(mask, 10, 8) + folds(rng, 60, 3), gloss=0.0
        )
    return sprite


def _hat(rng: np.random.Generator) -> Sprite:
    """A knitted hat with a turned-up brim, or a cap with a peak."""
    crown = polygon(smooth([(-0.55, 0.3), (-0.5, -0.3), (0, -0.65), (0.5, -0.3), (0.55, 0.3)], 7))
    sprite, cloth, knitted = Sprite(), _cloth(rng), rng.random() < 0.6
    knit = ripples(9, 0.0) * (1.6 if knitted else 0.1)
    sprite.add(crown, cloth, height=dome(crown, 45, 55) + knit + folds(rng, 50, 3), gloss=0.0)
    if knitted:
        brim = rectangle(-0.62, 0.15, 0.62, 0.5, 0.12)
        sprite.add(brim, cloth * 0.85, height=30 + dome(brim, 16, 15) + knit * 1.5, gloss=0.0)
    else:
        peak = polygon(smooth([(-0.5, 0.25), (0.5, 0.25), (0.75, 0.55), (0.2, 0.6), (-0.35, 0.45)], 6))
        sprite.add(peak, cloth * 0.8, height=14 + dome(peak, 8, 12), gloss=0.05)
    return sprite


_KINDS = (_shirt,) * 5 + (_trousers,) * 3 + (_heap,) * 3 + (_dress, _folded, _socks, _hat)


def draw(rng: np.random.Generator) -> Sprite:
    """Any worn-out garment."""
    return _KINDS[rng.integers(len(_KINDS))](rng)
