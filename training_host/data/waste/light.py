"""Light: one lamp and its surroundings, and what they do to a sprite's matter.

The shading is that of a small deferred renderer: heights give normals, normals give diffuse light, and the same
normals look up a tiny picture of the room, which is what makes metal, glass and wet plastic shine.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np

from training_host.data.waste.sprite import Sprite
from training_host.data.waste.texture import Field, grid, noise, stack

_ROOM = 64  # the side of the reflected room; blurred anyway, so small is enough


class Light(NamedTuple):
    """A lamp at direction ``(x, y, z)`` (towards it, unit length), and the room that shiny things mirror."""

    x: float
    y: float
    z: float
    ambient: float  # the share of light that comes from everywhere
    room: Field  # (64, 64), about 0..2: brightness by the normal's x and y


def random_light(rng: np.random.Generator) -> Light:
    """A lamp somewhere above, with a soft window and a second one elsewhere in the room."""
    azimuth, elevation = rng.uniform(0, 2 * math.pi), rng.uniform(0.6, 1.25)
    flat = math.cos(elevation)
    x, y, z = flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation)
    gx, gy = grid(_ROOM)
    room = 0.55 + 0.25 * noise(rng, 24, _ROOM) - 0.3 * np.hypot(gx, gy)
    _window(room, x * 0.6, y * 0.6, rng.uniform(0.1, 0.25), rng.uniform(0.1, 0.3), 1.3)
    _window(room, -x + rng.uniform(-0.3, 0.3), -y + rng.uniform(-0.3, 0.3), 0.1, rng.uniform(0.1, 0.4), 0.6)
    soft = cv2.GaussianBlur(room, (0, 0), 1.5)
    return Light(x, y, z, rng.uniform(0.35, 0.65), np.maximum(soft, 0.05))


def _window(room: Field, x: float, y: float, wide: float, high: float, brightness: float) -> None:
    gx, gy = grid(_ROOM)
    room[(np.abs(gx - x) < wide) & (np.abs(gy - y) < high)] += brightness


def shadow(sprite: Sprite, light: Light, reach: float) -> Field:
    """How much light a sprite takes from the ground, 0..1: a cast shadow and the dark line where it touches."""
    size = sprite.paint.shape[0]
    solid = sprite.paint[..., 3] - 0.65 * sprite.matter[..., 3]  # clear things cast little
    small = cv2.resize(solid, (size // 4, size // 4), interpolation=cv2.INTER_AREA)
    dx, dy = -light.x / light.z * reach / 4, -light.y / light.z * reach / 4
    moved = cv2.warpAffine(small, np.array([[1, 0, dx], [0, 1, dy]]), (size // 4, size // 4))
    cast = cv2.GaussianBlur(moved, (0, 0), 0.8 + reach / 12)
    touch = cv2.GaussianBlur(small, (0, 0), 1.2)
    dark = np.maximum(cast * (1 - light.ambient), touch * 0.35)
    image: Field = cv2.resize(dark, (size, size), interpolation=cv2.INTER_LINEAR)
    return image


def lit(sprite: Sprite, ground: Field, light: Light) -> Field:
    """The (size, size, 3) picture of a sprite on a ground, both 0..1 and of one size; the ground is kept."""
    left, top, wide, high = cv2.boundingRect((sprite.paint[..., 3] > 0.004).astype(np.uint8))
    picture = ground.copy()
    if not wide:
        return picture
    here = np.s_[top : top + high, left : left + wide]
    height, gloss, metal, clear = cv2.split(sprite.matter[here])
    colour, cover = np.ascontiguousarray(sprite.paint[here][..., :3]), np.ascontiguousarray(sprite.paint[here][..., 3])
    gx = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
    gy = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
    nz = 1 / np.sqrt(1 + gx * gx + gy * gy)
    nx, ny = -gx * nz, -gy * nz
    facing = np.maximum(nx * light.x + ny * light.y + nz * light.z, 0)
    diffuse = light.ambient * (0.55 + 0.45 * nz) + (1 - light.ambient) / (0.3 + 0.7 * light.z) * facing
    mirror = cv2.remap(light.room, nx * 31 + 31.5, ny * 31 + 31.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    shine = gloss * (np.maximum(mirror - 0.75, 0) + 0.35 * gloss * (1 - nz) ** 2)
    surface = colour * stack(diffuse + metal * (0.15 + 1.1 * mirror - diffuse))
    if clear.max() > 0.02:
        share = np.minimum(clear / np.maximum(cover, 1e-3), 1)
        # More glass lies along an oblique ray: the rim is deeper in colour.
        depth = 1.12 * np.exp(-1.6 * (1 - nz))
        seen = _refracted(ground, (left, top), gx, gy) * colour * stack(depth)
        surface += stack(share) * (seen - surface)
    picture[here] = picture[here] * stack(1 - cover) + surface + stack(shine)
    return picture


def _refracted(ground: Field, corner: tuple[int, int], gx: Field, gy: Field) -> Field:
    """The ground seen through a bent surface: every pixel looks a little aside, as its slope tells."""
    high, wide = gx.shape
    bend = 9.0
    columns = np.arange(wide, dtype=np.float32) + corner[0] + bend * np.clip(gx, -3, 3)
    rows = np.arange(high, dtype=np.float32)[:, None] + corner[1] + bend * np.clip(gy, -3, 3)
    image: Field = cv2.remap(ground, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return image
