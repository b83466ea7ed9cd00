"""Probes that tell how an oracle makes pictures small, whatever network stands behind it.

Image-scaling attacks hide a picture in another one: only who resizes with a certain filter sees it (Xiao et al., USENIX
Security 2019; Quiring et al., USENIX Security 2020). Here that tells the filters apart. Beside an ordinary picture is
asked, for every filter, a picture that looks the same through this filter and is full of noise through all the others.
The oracle's own filter is the one whose probe gets the ordinary picture's answer. Needs no network and no true labels,
and about thirty queries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from pi_agent.contract.images import SIDE
from pi_agent.contract.manifest import RESIZE_FILTERS
from pi_agent.prepare import Pixels, decode_query, encode_query, resample
from training_host.data.pool import Pool

PLAIN = "plain"
LOOKED_AT = 64
"""So many pictures of a pool are looked at for some that leave room for a change: white cannot become brighter."""
_STEPS, _RATE, _SETTLING = 40, 12.0, 60
_TINY = 1e-9
"""A picture of pure colours leaves no room for a grey pattern: nothing is divided by nothing."""
_QUALITY = 100
"""Of the probes' JPEGs: what compression adds is the smallest difference that can be told."""

Field = npt.NDArray[np.float32]


def filter_matrix(name: str, length: int) -> Field:
    """The filter along one axis, as a matrix: float32 (length, 300), each row the weights of one small pixel."""
    columns = resample(np.eye(SIDE, dtype=np.float32), name, (length, SIDE))
    return columns


def hide(picture: Pixels, name: str, size: tuple[int, int], rng: np.random.Generator) -> Pixels:
    """`picture` with a pattern that the filter `name` does not see when it shrinks to `size` (height, width).

    Uint8 (300, 300, 3) in and out. The pattern, grey, maximises the sum of the logarithms of its energy after each
    other filter, by gradient steps within 0..255 and within the null space of `name`; what remains visible is about
    one level of 255.
    """
    pixels = picture.astype(np.float32)
    lowest, highest = -pixels.min(axis=2), 255 - pixels.max(axis=2)
    own = _Filter(name, size)
    others = [_Filter(other, size) for other in RESIZE_FILTERS if other != name]
    pattern = own.unseen(rng.normal(scale=20, size=(SIDE, SIDE)).astype(np.float32))
    for _ in range(_STEPS):
        gradient = own.unseen(np.sum([other.gradient(pattern) for other in others], axis=0, dtype=np.float32))
        step = _RATE * gradient / (np.abs(gradient).std() + _TINY)
        pattern = own.unseen(np.clip(pattern + step, lowest, highest))
    for _ in range(_SETTLING):  # alternating projections: unseen, and within what a pixel can be
        pattern = np.clip(own.unseen(pattern), lowest, highest)
    return np.asarray((pixels + pattern[..., None]).round().clip(0, 255), dtype=np.uint8)


def choose_pictures(pool: Pool, count: int, rng: np.random.Generator) -> list[int]:
    """`count` pictures (or all) whose pixels are far from black and white, among some at random."""
    some = rng.permutation(len(pool))[:LOOKED_AT]
    small = pool.images[some].astype(np.int16)
    room = np.minimum(small.min(axis=3), 255 - small.max(axis=3)).mean(axis=(1, 2))
    return [int(i) for i in some[np.argsort(-room, kind="stable")][:count]]


def make_probes(
    pool: Pool,
    chosen: Sequence[int],
    size: tuple[int, int],
    rng: np.random.Generator,
    progress: Callable[[int], None] = lambda count: None,
) -> Iterator[tuple[str, bytes]]:
    """For every chosen picture its query and a probe for each of `RESIZE_FILTERS`: (kind, JPEG), for `write_batch`."""
    for index in chosen:
        query = pool.query(index)
        picture = decode_query(query.jpeg, pool.pictures[index].name)
        yield PLAIN, query.jpeg
        for name in RESIZE_FILTERS:
            yield name, encode_query(hide(picture, name, size, rng), _QUALITY)
            progress(1)


class _Filter:
    """One way to shrink a grey picture, and what it cannot see."""

    def __init__(self, name: str, size: tuple[int, int]) -> None:
        self._rows, self._columns = (filter_matrix(name, length) for length in size)
        self._back = tuple(np.linalg.pinv(matrix).astype(np.float32) for matrix in (self._rows, self._columns))

    def seen(self, pattern: Field) -> Field:
        return np.asarray(self._rows @ pattern @ self._columns.T, dtype=np.float32)

    def unseen(self, pattern: Field) -> Field:
        """The nearest pattern of which nothing is seen."""
        return pattern - np.asarray(self._back[0] @ self.seen(pattern) @ self._back[1].T, dtype=np.float32)

    def gradient(self, pattern: Field) -> Field:
        """Of half the logarithm of the energy that is seen; zero where nothing is."""
        seen = self.seen(pattern)
        return np.asarray(self._rows.T @ seen @ self._columns / ((seen**2).mean() + _TINY), dtype=np.float32)
