"""Brown, green and white glass: the same bottles, jars, flasks and shards, which differ in tint alone.

The tints stray far enough for olive bottles to look half brown and pale green ones half white, as they do.
"""

import numpy as np

from training_host.data.waste.shapes import (
    Turned,
    ellipse,
    lump,
    polygon,
    ragged,
    rectangle,
    turned,
)
from training_host.data.waste.sprite import Draw, Sprite, scatter
from training_host.data.waste.texture import Field, Rgb, label, mottle, noise, pick, tone

_LABELS: tuple[Rgb, ...] = ((0.9, 0.87, 0.78), (0.92, 0.9, 0.85), (0.6, 0.16, 0.14), (0.78, 0.64, 0.32))
_CAPS: tuple[Rgb, ...] = ((0.75, 0.68, 0.45), (0.7, 0.7, 0.7), (0.6, 0.15, 0.13))


def _bottle(rng: np.random.Generator, tint: Field) -> Sprite:
    """A beer or wine bottle: body, shoulder, neck, lip."""
    body, neck = rng.uniform(0.24, 0.36), rng.uniform(0.09, 0.12)
    shoulder = rng.uniform(-0.4, -0.05)
    slope = rng.uniform(0.1, 0.4)  # short for Bordeaux, long for Riesling
    profile = [
        (-0.95, neck),
        (-0.94, neck + 0.03),
        (-0.88, neck + 0.03),
        (-0.87, neck),
        (shoulder - slope, neck * 1.1),
        (shoulder - slope * 0.5, (neck + body) * 0.5),
        (shoulder, body),
        (0.88, body),
        (0.95, body * 0.85),
    ]
    glass = turned(profile, 0.05)
    sprite = _blown(rng, glass, tint)
    if rng.random() < 0.55:
        _label(rng, sprite, glass, shoulder + 0.12, rng.uniform(0.4, 0.75))
    if rng.random() < 0.3:  # the cap is still on, or foil round the neck
        sprite.decal((glass.along < rng.uniform(-0.88, -0.7)).astype(np.float32), pick(rng, _CAPS), metal=0.6)
    return sprite


def _jar(rng: np.random.Generator, tint: Field) -> Sprite:
    """A jam jar, with or without its lid."""
    body, mouth, top = rng.uniform(0.42, 0.6), rng.uniform(0.34, 0.45), rng.uniform(-0.75, -0.5)
    bottom = rng.uniform(0.5, 0.8)
    profile = [(top, mouth), (top + 0.18, mouth), (top + 0.3, body), (bottom - 0.06, body), (bottom, body * 0.85)]
    glass = turned(profile, 0.1)
    sprite = _blown(rng, glass, tint)
    if rng.random() < 0.5:
        _label(rng, sprite, glass, top + 0.42, bottom - 0.2)
    rim = ellipse(0, top + 0.02, mouth, 0.1)
    if rng.random() < 0.45:
        lid = turned([(top - 0.06, mouth + 0.03), (top + 0.14, mouth + 0.03)], 0.1)
        colour = pick(rng, _CAPS)
        sprite.add(
            np.maximum(lid.mask, ellipse(0, top - 0.05, mouth + 0.03, 0.1)),
            colour,
            height=lid.height,
            gloss=0.6,
            metal=0.5,
        )
    else:
        sprite.add(rim, tint * 0.9, height=30 + 8 * rim, gloss=0.9, clear=0.75)
        sprite.add(ellipse(0, top + 0.02, mouth * 0.88, 0.075), tint, height=20, gloss=0.5, clear=0.9)
    return sprite


def _flask(rng: np.random.Generator, tint: Field) -> Sprite:
    """A square bottle: spirits, oil or scent."""
    wide, top = rng.uniform(0.3, 0.55), rng.uniform(-0.5, -0.2)
    neck = turned([(top - 0.35, 0.13), (top - 0.33, 0.15), (top - 0.25, 0.13), (top + 0.05, 0.14)])
    sprite = _blown(rng, neck, tint)
    block = rectangle(-wide, top, wide, 0.8, 0.12)
    inner = rectangle(-wide + 0.1, top + 0.1, wide - 0.1, 0.7, 0.1)
    sprite.add(
        block, mottle(tint, inner - 1, 0.25), height=14 * block + 10 * inner + noise(rng, 40) * 2, gloss=0.9, clear=0.85
    )
    if rng.random() < 0.5:
        sprite.decal(rectangle(-wide + 0.12, top + 0.2, wide - 0.12, 0.6), label(rng, _LABELS), gloss=0.1)
    return sprite


def _shard(rng: np.random.Generator, tint: Field) -> Sprite:
    """A broken piece: straight edges with thick, bright rims on a slightly curved face."""
    angle = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(4, 7)))
    reach = rng.uniform(0.5, 0.9, len(angle))
    corners = ragged(rng, np.stack([reach * np.cos(angle), reach * np.sin(angle)], 1), 0.05)
    outer, inner = polygon(corners), polygon(corners * 0.9 + rng.uniform(-0.02, 0.02, 2))
    sprite = Sprite()
    sprite.add(
        outer,
        mottle(tint, inner - 1, 0.4),
        height=6 * outer + 8 * noise(rng, 120) + 3 * inner,
        gloss=0.9,
        clear=0.75 + 0.15 * inner,
    )
    return sprite


def _shards(rng: np.random.Generator, tint: Field) -> Sprite:
    return scatter(rng, lambda r: _shard(r, tint), int(rng.integers(3, 6)), 0.42)


def _goblet(rng: np.random.Generator, tint: Field) -> Sprite:
    """A tumbler or a vase, open at the top."""
    top, bottom = rng.uniform(0.35, 0.5), rng.uniform(0.25, 0.42)
    glass = turned([(-0.7, top), (0.7, bottom), (0.78, bottom * 0.9)], 0.12)
    sprite = _blown(rng, glass, tint)
    sprite.add(ellipse(0, -0.66, top, 0.13), tint * 0.85, height=34.0, gloss=0.8, clear=0.8)
    sprite.add(ellipse(0, -0.66, top * 0.93, 0.105), tint, height=24.0, gloss=0.4, clear=0.92)
    base = lump(rng, bottom * 0.8, 0.05, stretch=1.0, centre=(0, 0.62)) * (1, 0.35) + (0, 0.42)
    sprite.decal(polygon(base), tint * 0.8, clear=0.7)
    return sprite


def _blown(rng: np.random.Generator, glass: Turned, tint: Field) -> Sprite:
    """Clear matter with thick walls at the edge and a faint unevenness."""
    sprite = Sprite()
    wall = np.abs(glass.around)
    deep = mottle(tint, np.clip(wall * 3 - 1.9, 0, 1), -0.35)
    sprite.add(glass.mask, deep, height=glass.height + noise(rng, 25), gloss=0.95, clear=0.9 - 0.15 * wall)
    streak = np.clip(1 - np.abs(wall - 0.62) * 14, 0, 1) * rng.uniform(0.1, 0.45)  # the window mirrored along the wall
    sprite.decal(streak * (glass.around < 0), np.full(3, 0.95, np.float32), gloss=1.0)
    return sprite


def _label(rng: np.random.Generator, sprite: Sprite, glass: Turned, top: float, bottom: float) -> None:
    band = (glass.along > top) & (glass.along < bottom) & (np.abs(glass.around) < rng.uniform(0.6, 1.01))
    sprite.decal(band.astype(np.float32), label(rng, _LABELS), gloss=0.15)


_KINDS = (_bottle,) * 4 + (_jar,) * 2 + (_flask, _goblet, _shard, _shards)


def _maker(*tints: Rgb) -> Draw:
    def draw(rng: np.random.Generator) -> Sprite:
        tint = tone(rng, tints[int(rng.integers(len(tints)))], 0.045)
        return _KINDS[int(rng.integers(len(_KINDS)))](rng, tint)

    return draw


# Repeats are weights: olive and pale green are rarer than bottle green.
brown = _maker((0.62, 0.34, 0.12), (0.46, 0.25, 0.1), (0.6, 0.36, 0.12), (0.55, 0.4, 0.16))
green = _maker(*((0.24, 0.56, 0.26), (0.2, 0.46, 0.22), (0.25, 0.55, 0.2)) * 2, (0.48, 0.54, 0.2), (0.5, 0.78, 0.55))
white = _maker((0.93, 0.98, 0.99), (0.9, 0.97, 0.98), (0.87, 0.95, 0.94))
