"""Composites: geometry, and that composing commutes with shrinking."""

from __future__ import annotations

import numpy as np
import pytest

from pi_agent.contract.claim import compose
from pi_agent.contract.claim.composites import GEOMETRIES
from pi_agent.contract.manifest import InputSpec
from pi_agent.prepare import shrink_to
from tests.support_models import carrier

ONES, TWOS = np.full((8, 8, 3), 1, np.uint8), np.full((8, 8, 3), 2, np.uint8)


@pytest.mark.parametrize(
    ("geometry", "rows"),
    [
        ("left-right", ["11112222"] * 8),
        ("top-bottom", ["11111111"] * 4 + ["22222222"] * 4),
        ("centre", ["11111111"] * 2 + ["11222211"] * 4 + ["11111111"] * 2),
    ],
)
def test_geometry(geometry: str, rows: list[str]) -> None:
    out = compose(ONES, TWOS, geometry)
    assert ["".join(map(str, row)) for row in out[..., 0]] == rows
    assert (out == out[..., :1]).all(), "all channels alike"


def test_the_sources_are_left_alone() -> None:
    compose(ONES, TWOS, "centre")
    assert (ONES == 1).all()
    assert (TWOS == 2).all()


def test_a_batch_is_composed_picture_by_picture() -> None:
    first, second = np.random.default_rng(0).integers(0, 256, (2, 5, 16, 16, 3)).astype(np.uint8)
    whole = compose(first, second, "centre")
    assert all(np.array_equal(whole[i], compose(first[i], second[i], "centre")) for i in range(5))


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("side", [32, 64, 100])
def test_shrinking_after_composing_is_composing_after_shrinking(geometry: str, side: int) -> None:
    spec = InputSpec(size=(side, side))
    first, second = carrier("boots", 1), carrier("glass", 2)
    late = shrink_to(compose(first, second, geometry), spec).astype(int)
    early = compose(shrink_to(first, spec), shrink_to(second, spec), geometry).astype(int)
    assert np.abs(late - early).max() <= 1


@pytest.mark.parametrize(
    "shapes",
    [((8, 8, 3), (16, 16, 3))]
    + [(shape, shape) for shape in ((8, 12, 3), (10, 10, 3), (3, 8, 8), (8, 8, 4), (8, 8), (8,))],
)
def test_pictures_that_do_not_fit_are_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="two square pictures"):
        compose(np.zeros(shapes[0], np.uint8), np.zeros(shapes[1], np.uint8), "centre")


def test_an_unknown_geometry_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(ValueError, match="known: left-right, top-bottom, centre"):
        compose(ONES, TWOS, "diagonal")
