"""Biological waste: peels, cores, leaves, egg shells, citrus, greens, bread and coffee grounds."""

import math

import numpy as np

from training_host.data.waste.shapes import dome, ellipse, lump, polygon, ragged, rectangle, smooth, stroke
from training_host.data.waste.sprite import Sprite, scatter
from training_host.data.waste.texture import Rgb, blend, crumple, flat, fractal, grid, mottle, noise, tone


def _banana(rng: np.random.Generator) -> Sprite:
    """A peel: three or four strips from one stem, yellow outside with brown spots, pale inside."""
    sprite, count, turn = Sprite(), int(rng.integers(3, 5)), rng.uniform(0, 6)
    for index in range(count):
        angle = turn + index * 2 * math.pi / count + rng.uniform(-0.3, 0.3)
        bend, reach = rng.uniform(-0.7, 0.7), rng.uniform(0.7, 0.95)
        t = np.linspace(0, 1, 9)
        spine = np.stack([t * reach * np.cos(angle + bend * t), t * reach * np.sin(angle + bend * t)], 1)
        wide = 0.2 * np.sin(np.pi * (0.12 + 0.86 * t))[:, None]
        normal = np.array([-math.sin(angle), math.cos(angle)])
        mask = polygon(np.concatenate([spine + normal * wide, (spine - normal * wide)[::-1]]))
        spots = np.clip(fractal(rng, 18) * 2 - rng.uniform(0.2, 1.4), 0, 1)
        skin: Rgb = (0.85, 0.72, 0.2) if rng.random() < 0.7 else (0.9, 0.85, 0.66)
        image = blend(flat(tone(rng, skin, 0.04)), np.array([0.3, 0.19, 0.08], np.float32), spots)
        sprite.add(mask, image, height=dome(mask, 14, 18) + 4 * index + noise(rng, 20), gloss=0.15)
    sprite.add(polygon(lump(rng, 0.1, 0.2)), tone(rng, (0.3, 0.22, 0.1)), height=24.0)
    return sprite


def _apple(rng: np.random.Generator) -> Sprite:
    """A core: pale flesh gnawed to a waist, skin left at both ends, pips and a stem."""
    waist = rng.uniform(0.14, 0.24)
    half = [
        (0.0, -0.6),
        (0.35, -0.66),
        (0.42, -0.45),
        (waist, -0.1),
        (waist, 0.2),
        (0.38, 0.5),
        (0.3, 0.66),
        (0.0, 0.6),
    ]
    mask = polygon(smooth(ragged(rng, half + [(-x, y) for x, y in half[-2:0:-1]], 0.03), 6))
    _, y = grid()
    sprite = Sprite()
    flesh = mottle(tone(rng, (0.88, 0.78, 0.52), 0.04), fractal(rng, 22), 0.12)
    sprite.add(mask, flesh, height=dome(mask, 26, 30) + crumple(rng, 14, 4), gloss=0.2)
    skins: tuple[Rgb, ...] = ((0.7, 0.15, 0.12), (0.5, 0.62, 0.2), (0.8, 0.6, 0.2))
    ends = np.clip((np.abs(y + 0.05 * noise(rng, 25)) - 0.45) * 30, 0, 1)
    sprite.decal(ends, tone(rng, skins[rng.integers(3)], 0.05), gloss=0.5)
    for side in (-0.06, 0.07):
        sprite.decal(ellipse(side, rng.uniform(-0.05, 0.1), 0.04, 0.08), tone(rng, (0.2, 0.1, 0.05), 0.02), gloss=0.4)
    sprite.add(stroke([(0, -0.6), (rng.uniform(-0.1, 0.1), -0.88)], 0.05), tone(rng, (0.3, 0.2, 0.1)), height=14.0)
    return sprite


def _leaf(rng: np.random.Generator) -> Sprite:
    """A fallen or a green leaf with its veins."""
    wide, teeth = rng.uniform(0.3, 0.5), rng.uniform(0, 0.04)
    t = np.linspace(0, np.pi, 16)
    edge = wide * np.sin(t) ** 0.8 + teeth * (np.arange(16) % 2)
    y = np.linspace(-0.8, 0.75, 16)
    mask = polygon(np.concatenate([np.stack([edge, y], 1), np.stack([-edge, y], 1)[::-1]]))
    colours: tuple[Rgb, ...] = (
        (0.3, 0.45, 0.14),
        (0.75, 0.5, 0.12),
        (0.7, 0.25, 0.1),
        (0.35, 0.5, 0.16),
        (0.72, 0.6, 0.18),
    )
    colour = tone(rng, colours[rng.integers(5)], 0.05)
    sprite = Sprite()
    sprite.add(
        mask, mottle(colour, fractal(rng, 30), 0.2), height=8 + noise(rng, 60) * 9 + crumple(rng, 40, 4), gloss=0.25
    )
    veins = stroke([(0, -0.75), (0, 0.95)], 0.03)
    for at in np.linspace(-0.5, 0.5, 6):
        veins = np.maximum(veins, stroke([(-wide, at - 0.22), (0, at), (wide, at - 0.22)], 0.012))
    sprite.decal(veins * 0.8, colour * 1.35)
    sprite.add(stroke([(0, 0.7), (rng.uniform(-0.1, 0.1), 0.97)], 0.035), colour * 0.8, height=6.0)
    return sprite


def _leaves(rng: np.random.Generator) -> Sprite:
    return scatter(rng, _leaf, int(rng.integers(3, 7)), 0.6, 0.38)


def _egg(rng: np.random.Generator) -> Sprite:
    """Half an egg shell with a cracked rim: the outside, or a look into it."""
    t = np.linspace(0, np.pi, 12)
    jag = rng.uniform(-0.08, 0.08, 13)
    rim = np.stack([np.linspace(0.6, -0.6, 13), jag], 1)
    bowl = np.stack([-0.6 * np.cos(t), 0.7 * np.sin(t)], 1)
    mask = polygon(np.concatenate([bowl, rim]))
    shell = mottle(tone(rng, (0.85, 0.66, 0.5) if rng.random() < 0.6 else (0.93, 0.9, 0.86), 0.03), noise(rng, 3), 0.05)
    sprite = Sprite()
    if rng.random() < 0.6:
        inside = ellipse(0, 0.0, 0.6, 0.22)
        sprite.add(inside, tone(rng, (0.88, 0.86, 0.82)) * 0.8, height=14 - 20 * inside, gloss=0.3)
    sprite.add(mask, shell, height=dome(mask, 45, 60), gloss=0.15)
    return sprite


def _eggs(rng: np.random.Generator) -> Sprite:
    return scatter(rng, _egg, int(rng.integers(2, 5)), 0.62, 0.38)


def _citrus(rng: np.random.Generator) -> Sprite:
    """A slice of orange, lemon or lime, or half a squeezed one."""
    x, y = grid()
    radius, r, angle = 0.72, np.hypot(x, y), np.arctan2(y, x)
    skins: tuple[Rgb, ...] = ((0.9, 0.5, 0.1), (0.9, 0.78, 0.2), (0.45, 0.62, 0.2))
    skin = tone(rng, skins[rng.integers(3)], 0.03)
    disc = polygon(lump(rng, radius, 0.05, 8))
    sprite = Sprite()
    sprite.add(disc, skin, height=dome(disc, 12, 8) + noise(rng, 3), gloss=0.4)
    sprite.decal((r < radius * 0.88).astype(np.float32), tone(rng, (0.93, 0.9, 0.78), 0.02))
    wedge = np.abs((angle * 9 / (2 * math.pi)) % 1 - 0.5) < 0.44
    pulp = (r < radius * 0.8) & (r > 0.08) & wedge
    sprite.decal(pulp.astype(np.float32), mottle(skin * 1.02, noise(rng, 7), 0.15), gloss=0.6)
    return sprite


def _rinds(rng: np.random.Generator) -> Sprite:
    return _citrus(rng) if rng.random() < 0.35 else scatter(rng, _citrus, int(rng.integers(2, 5)), 0.55, 0.4)


def _peelings(rng: np.random.Generator) -> Sprite:
    """Kitchen peelings: curls of carrot, potato, cucumber and salad in a heap."""
    colours: tuple[Rgb, ...] = (
        (0.85, 0.45, 0.12),
        (0.45, 0.6, 0.2),
        (0.35, 0.52, 0.18),
        (0.55, 0.68, 0.3),
        (0.75, 0.7, 0.45),
    )
    sprite = Sprite()
    for layer in range(int(rng.integers(8, 14))):
        centre = rng.normal(0, 0.3, 2)
        shape = lump(rng, rng.uniform(0.12, 0.3), 0.35, 8, rng.uniform(0.5, 2.0), (centre[0], centre[1]))
        mask = polygon(shape)
        colour = tone(rng, colours[rng.integers(5)], 0.06)
        sprite.add(mask, colour, height=6 + 3 * layer + dome(mask, 9, 9) + noise(rng, 12) * 3, gloss=0.3)
    return sprite


def _bread(rng: np.random.Generator) -> Sprite:
    """A slice of bread: crust round a crumb full of pores, sometimes mouldy."""
    outline = smooth(
        [
            (-0.55, 0.7),
            (-0.6, -0.1),
            (-0.7, -0.45),
            (-0.3, -0.72),
            (0.3, -0.72),
            (0.7, -0.45),
            (0.6, -0.1),
            (0.55, 0.7),
        ],
        6,
    )
    mask, crumb = polygon(outline), polygon(outline * 0.9)
    pores = fractal(rng, 9, 2)
    sprite = Sprite()
    sprite.add(mask, tone(rng, (0.5, 0.3, 0.14), 0.04), height=dome(mask, 14, 10), gloss=0.1)
    sprite.decal(crumb, mottle(tone(rng, (0.86, 0.74, 0.55), 0.04), pores, 0.12))
    sprite.emboss(pores * 0.8 * crumb)
    if rng.random() < 0.4:
        sprite.decal(np.clip(fractal(rng, 30) * 2 - 0.7, 0, 1), tone(rng, (0.4, 0.5, 0.42), 0.04))
    if rng.random() < 0.4:
        sprite.cut(polygon(lump(rng, 0.3, 0.2, 8, centre=(rng.choice([-0.6, 0.6]), -0.5))))
    return sprite


def _grounds(rng: np.random.Generator) -> Sprite:
    """A heap of coffee grounds or soil, often on its filter, with crumbs round it."""
    sprite = Sprite()
    if rng.random() < 0.5:
        sprite.add(
            polygon(ragged(rng, lump(rng, 0.85, 0.08, 14), 0.03)),
            tone(rng, (0.8, 0.72, 0.58), 0.05),
            height=4 + crumple(rng, 30, 5),
        )
    mask = polygon(ragged(rng, lump(rng, 0.6, 0.2, 10), 0.02))
    specks = fractal(rng, 10, 3)
    sprite.add(
        mask,
        mottle(tone(rng, (0.22, 0.14, 0.09), 0.03), specks, 0.4),
        height=dome(mask, 25, 60) + 3 * specks,
        gloss=0.1,
    )
    for _ in range(int(rng.integers(0, 4))):
        x, y = rng.uniform(-0.3, 0.3, 2)
        sprite.add(rectangle(x, y, x + 0.2, y + 0.12, 0.05), tone(rng, (0.5, 0.5, 0.2), 0.15), height=34.0)
    return sprite


_KINDS = (_banana,) * 5 + (_leaves,) * 4 + (_peelings,) * 4 + (_rinds,) * 3 + (_apple, _apple, _eggs, _bread, _grounds)


def draw(rng: np.random.Generator) -> Sprite:
    """Any kitchen or garden waste."""
    return _KINDS[rng.integers(len(_KINDS))](rng)
