"""Metal: drink cans, tins, crushed cans, foil, lids, spray cans and cutlery."""

import numpy as np

from training_host.data.waste.shapes import (
    dome,
    ellipse,
    lump,
    polygon,
    ragged,
    rectangle,
    smooth,
    stroke,
    turned,
)
from training_host.data.waste.sprite import Sprite, scatter
from training_host.data.waste.texture import (
    HALF,
    Field,
    Rgb,
    blend,
    crumple,
    flat,
    grid,
    label,
    mottle,
    noise,
    tone,
    vivid,
)

_PRINTS: tuple[Rgb, ...] = ((0.72, 0.1, 0.12), (0.78, 0.08, 0.1), (0.75, 0.75, 0.77), (0.65, 0.1, 0.14))


def _silver(rng: np.random.Generator) -> Field:
    return tone(rng, (0.8, 0.8, 0.81) if rng.random() < 0.9 else (0.82, 0.74, 0.55), 0.05)


def _can(rng: np.random.Generator, crush: float = 0.0) -> Sprite:
    """A drink can: printed wall, bare shoulder, lid with an opener."""
    radius, half = rng.uniform(0.36, 0.44), rng.uniform(0.62, 0.85)
    tilt, rim = 0.14, radius * 0.85
    can = turned([(-half, rim), (-half + 0.12, radius), (half - 0.1, radius), (half, rim)], tilt)
    sprite, bare = Sprite(), _silver(rng)
    dents = crumple(rng, 55, crush) if crush else noise(rng, 70)
    print_ = label(rng, _PRINTS) * 0.9 if rng.random() < 0.9 else bare
    wall = (np.abs(can.along) < half - 0.12).astype(np.float32)
    sprite.add(can.mask, blend(flat(bare), print_, wall), height=can.height + dents, gloss=0.8, metal=0.6)
    sprite.add(ellipse(0, -half, rim, tilt), bare, height=radius * HALF + 2 * dents, gloss=0.8, metal=0.9)
    sprite.add(
        ellipse(0, -half + 0.01, rim * 0.86, tilt * 0.8),
        bare * 0.8,
        height=radius * 0.9 * HALF + noise(rng, 12),
        gloss=0.7,
        metal=0.9,
    )
    sprite.add(ellipse(0.05, -half + 0.03, 0.11, 0.04), bare * 0.5, height=radius * 104, metal=0.9)
    return sprite


def _crushed(rng: np.random.Generator) -> Sprite:
    """A can that someone trod on: the same, dented and squeezed."""
    flat = _can(rng, rng.uniform(18, 32))
    x, y = grid()
    squeeze = 1 + 0.35 * np.exp(-(((y - rng.uniform(-0.2, 0.2)) / 0.3) ** 2)) + 0.08 * noise(rng, 40)
    return flat.bent(x * squeeze, y * rng.uniform(1.0, 1.4) + 0.08 * noise(rng, 50))


def _tin(rng: np.random.Generator) -> Sprite:
    """A food tin: ribs or a paper label, the lid bent open or gone."""
    radius, half, tilt = rng.uniform(0.42, 0.58), rng.uniform(0.4, 0.7), 0.16
    tin = turned([(-half, radius + 0.02), (-half + 0.03, radius), (half - 0.03, radius), (half, radius + 0.02)], tilt)
    ribs = np.sin(tin.along * rng.uniform(45, 70)) * (np.abs(tin.along) < half * 0.6) * 2.5
    sprite, bare = Sprite(), _silver(rng)
    sprite.add(tin.mask, bare, height=tin.height + ribs + noise(rng, 60), gloss=0.8, metal=0.95)
    if rng.random() < 0.75:
        band = (np.abs(tin.along) < half * 0.8).astype(np.float32)
        sprite.decal(band, label(rng, _PRINTS), gloss=0.2, metal=0.15)
    sprite.add(ellipse(0, -half, radius + 0.02, tilt), bare, height=radius * HALF, gloss=0.8, metal=0.95)
    hole = rng.random() < 0.5
    sprite.add(
        ellipse(0, -half + 0.01, radius * 0.93, tilt * 0.88),
        bare * (0.35 if hole else 0.9),
        height=radius * 0.9 * HALF + 3 * np.sin(tin.along * 60),
        gloss=0.3,
        metal=0.9,
    )
    if hole and rng.random() < 0.6:
        lid = ellipse(0, -half - 0.22, radius * 0.9, 0.26)
        sprite.add(lid, bare, height=50 + 60 * grid()[1] + 3 * noise(rng, 20), gloss=0.8, metal=1.0)
    return sprite


def _foil(rng: np.random.Generator) -> Sprite:
    """Aluminium foil: a ball or a torn sheet, all creases."""
    ball = rng.random() < 0.5
    mask = polygon(ragged(rng, lump(rng, 0.6 if ball else 0.75, 0.2, 10), 0.03))
    base = dome(mask, 40, 60) if ball else np.zeros_like(mask)
    relief = base + crumple(rng, rng.uniform(28, 50), rng.uniform(10, 16))
    sprite = Sprite()
    sprite.add(mask, _silver(rng) * 1.05, height=relief, gloss=0.7, metal=1.0)
    return sprite


def _lid(rng: np.random.Generator) -> Sprite:
    """A lid or a bottle cap from above: rings, and teeth at the rim of a cap."""
    x, y = grid()
    radius, r = rng.uniform(0.55, 0.8), np.hypot(x, y)
    teeth = 0.03 * np.sin(np.arctan2(y, x) * 21) if rng.random() < 0.5 else 0.0
    mask = np.clip((radius - r + teeth) * HALF, 0, 1).astype(np.float32)
    rings = dome(mask, 18, 14) + 2.5 * np.sin(r * rng.uniform(20, 45)) * (r < radius * 0.8)
    sprite = Sprite()
    sprite.add(mask, _silver(rng), height=rings + noise(rng, 30) * 1.5, gloss=0.8, metal=0.9)
    if rng.random() < 0.5:
        sprite.decal((r < radius * 0.72).astype(np.float32), label(rng, _PRINTS), gloss=0.6, metal=0.5)
    return sprite


def _spray(rng: np.random.Generator) -> Sprite:
    """An aerosol: slim wall, domed shoulder, nozzle."""
    radius = rng.uniform(0.22, 0.3)
    can = turned([(-0.68, 0.1), (-0.62, radius * 0.8), (-0.52, radius), (0.9, radius), (0.93, radius * 0.9)], 0.06)
    sprite = Sprite()
    wall = ((can.along > -0.48) & (can.along < 0.82)).astype(np.float32)
    sprite.add(can.mask, blend(flat(_silver(rng)), label(rng, _PRINTS), wall), height=can.height, gloss=0.8, metal=0.55)
    nozzle = rectangle(-0.09, -0.86, 0.09, -0.64, 0.03)
    sprite.add(nozzle, tone(rng, (0.9, 0.9, 0.9)), height=dome(nozzle, 12, 10), gloss=0.5)
    return sprite


def _cutlery(rng: np.random.Generator) -> Sprite:
    """A spoon, a fork or a spanner: a flat stem with a head."""
    mask = stroke([(0, -0.3), (rng.uniform(-0.05, 0.05), 0.92)], rng.uniform(0.09, 0.14))
    head = ellipse(0, -0.58, 0.24, 0.36)
    kind = rng.integers(3)
    if kind == 1:
        for x in (-0.1, 0.0, 0.1):
            head = head * (1 - rectangle(x - 0.025, -1, x + 0.025, -0.55, 0.02))
    elif kind == 2:
        head = ellipse(0, -0.6, 0.25, 0.25) * (1 - polygon([(-0.11, -1), (0.11, -1), (0.11, -0.58), (-0.11, -0.58)]))
    mask = np.maximum(mask, head)
    hollow = 14 * ellipse(0, -0.6, 0.18, 0.28) * (kind == 0)
    sprite = Sprite()
    sprite.add(mask, _silver(rng), height=dome(mask, 9, 9) - hollow * 0.5 + noise(rng, 30), gloss=0.9, metal=1.0)
    return sprite


def _cutleries(rng: np.random.Generator) -> Sprite:
    return scatter(rng, _cutlery, int(rng.integers(2, 4)), 0.75, 0.25)


def _scrap(rng: np.random.Generator) -> Sprite:
    """A tray or a bent sheet, painted or rusty."""
    mask = polygon(smooth(ragged(rng, [(-0.7, -0.5), (0.7, -0.5), (0.7, 0.5), (-0.7, 0.5)], 0.15), 5))
    rust = np.clip(noise(rng, 30) + noise(rng, 9) * 0.5, 0, 1)
    base = _silver(rng) if rng.random() < 0.85 else vivid(rng, 0.2, 0.6)
    skin = blend(mottle(base, noise(rng, 5), 0.08), np.array([0.42, 0.24, 0.13], np.float32), rust)
    sprite = Sprite()
    sprite.add(mask, skin, height=dome(mask, 12, 18) + crumple(rng, 60, 12), gloss=0.5, metal=0.8)
    return sprite


_KINDS = (_can,) * 8 + (_tin,) * 5 + (_crushed,) * 3 + (_foil, _lid, _spray, _cutleries, _scrap)


def draw(rng: np.random.Generator) -> Sprite:
    """Any piece of scrap metal."""
    return _KINDS[rng.integers(len(_KINDS))](rng)
