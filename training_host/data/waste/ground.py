"""What the waste lies on: the places where people take such pictures. Each returns (size, size, 3) in 0..1."""

from collections.abc import Callable

import cv2
import numpy as np

from training_host.data.waste.texture import Field, fractal, grid, mottle, noise, stack, tone


def _board(rng: np.random.Generator, size: int) -> Field:
    """A poster board or a table top, almost plain."""
    base = tone(rng, (0.82, 0.81, 0.78), 0.03) if rng.random() < 0.94 else tone(rng, (0.5, 0.52, 0.55), 0.09)
    return mottle(base, noise(rng, 150, size) + 0.3 * noise(rng, 3, size), 0.05)


def _wood(rng: np.random.Generator, size: int) -> Field:
    """Planks: noise stretched along the grain, a dark joint between two boards."""
    base = tone(rng, ((0.62, 0.44, 0.28), (0.42, 0.28, 0.18), (0.75, 0.62, 0.45))[rng.integers(3)], 0.05)
    grain = noise(rng, (size, 9), size) + 0.6 * noise(rng, (70, 2.5), size)
    plank = size // int(rng.integers(2, 5))
    rows = np.arange(size) + int(rng.integers(plank))
    shade = 1 + 0.3 * (rng.random(size // plank + 2) - 0.5)[rows // plank]
    shade[rows % plank < 2] = 0.45
    image = mottle(base, grain, 0.14) * stack(np.repeat(shade[:, None].astype(np.float32), size, 1))
    return _turned(rng, image if rng.random() < 0.5 else np.ascontiguousarray(image.swapaxes(0, 1)))


def _concrete(rng: np.random.Generator, size: int) -> Field:
    """Concrete or asphalt: blotches below, grit above."""
    base = tone(rng, (0.52, 0.51, 0.49), 0.06) if rng.random() < 0.6 else tone(rng, (0.36, 0.36, 0.37), 0.05)
    grit = cv2.resize(rng.standard_normal((size // 2, size // 2), dtype=np.float32), (size, size))
    return mottle(base, fractal(rng, 80, 3, size) * 0.8 + grit, 0.09)


def _grass(rng: np.random.Generator, size: int) -> Field:
    """A lawn from above: short strokes of noise in two directions, green with some straw."""
    blades = noise(rng, (3, 12), size) + noise(rng, (10, 3), size) + 0.5 * noise(rng, 40, size)
    straw = np.clip(noise(rng, 14, size) + noise(rng, (2, 9), size) * 0.6, 0, 1)
    green, dry = tone(rng, (0.27, 0.38, 0.15), 0.04), tone(rng, (0.55, 0.5, 0.3), 0.05)
    image = mottle(green, blades, 0.4)
    return image + stack(straw) * (mottle(dry, blades, 0.25) - image)


def _cloth(rng: np.random.Generator, size: int) -> Field:
    """A table cloth: woven, sometimes checked."""
    x, y = grid(size)
    period = rng.uniform(90, 160)
    threads = np.sin(x * period) * np.sin(y * period) + noise(rng, 60, size) * 0.5
    grey = rng.uniform(0.35, 0.8)
    base = tone(rng, (grey, grey, grey), 0.1)
    image = mottle(base, threads, 0.1)
    if rng.random() < 0.4:
        squares = (np.sin(x * 14) > 0).astype(np.float32) + (np.sin(y * 14) > 0)
        image = image * stack(0.75 + 0.2 * squares)
    return _turned(rng, image)


def _tiles(rng: np.random.Generator, size: int) -> Field:
    """A kitchen floor with joints."""
    base = tone(rng, (0.72, 0.7, 0.66), 0.1)
    pitch = int(rng.integers(70, 140))
    at = np.arange(size) + int(rng.integers(pitch))
    joint = (at % pitch < 3).astype(np.float32)
    lines = np.maximum(joint[:, None], joint[None, :])
    return _turned(rng, mottle(base, noise(rng, 30, size) - 3.5 * lines, 0.06))


# Repeats are weights: most people clear a plain place before they take a picture.
_Maker = Callable[[np.random.Generator, int], Field]
_INDOORS: tuple[_Maker, ...] = (_board,) * 17 + (_wood,) * 2 + (_cloth, _tiles)
_OUTDOORS: tuple[_Maker, ...] = (_concrete,) * 3 + (_grass,)


def random_ground(rng: np.random.Generator, size: int, outdoors: float) -> Field:
    """One of the grounds; with chance ``outdoors`` one that is found in the open."""
    choice = _OUTDOORS if rng.random() < outdoors else _INDOORS
    return choice[int(rng.integers(len(choice)))](rng, size)


def _turned(rng: np.random.Generator, ground: Field) -> Field:
    """The ground at a slight angle, so that joints do not run along the picture's edges."""
    size = ground.shape[0]
    turn = cv2.getRotationMatrix2D((size / 2, size / 2), rng.uniform(-20, 20), 1.0)
    image: Field = cv2.warpAffine(ground, turn, (size, size), borderMode=cv2.BORDER_REFLECT)
    return image
