"""The drawn waste pictures: their format, that chance comes from the generator alone, and that classes differ."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from training_host.data.waste import CLASSES, render


def thumbnails(seed: int, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The middle of ``count`` pictures of every class as 8x8 colour thumbnails (n, 192), and their classes (n,)."""
    rows, labels = [], []
    for index, name in enumerate(CLASSES):
        for number in range(count):
            picture = render(name, np.random.default_rng([seed, index, number]))
            middle = picture[75:225, 75:225]  # where the object is
            rows.append(cv2.resize(middle, (8, 8), interpolation=cv2.INTER_AREA).ravel().astype(np.float32))
            labels.append(index)
    return np.stack(rows), np.array(labels)


def test_the_classes_are_the_twelve_in_alphabetical_order() -> None:
    assert len(CLASSES) == 12
    assert list(CLASSES) == sorted(CLASSES)
    assert {"battery", "brown-glass", "white-glass"} <= set(CLASSES)


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_renders(name: str) -> None:
    for seed in range(8):  # several, for every class has several kinds of things
        picture = render(name, np.random.default_rng(seed))
        assert picture.shape == (300, 300, 3)
        assert picture.dtype == np.uint8
        assert picture.std() > 3  # there is something to see


@pytest.mark.parametrize("name", CLASSES)
def test_the_same_seed_gives_the_same_pixels(name: str) -> None:
    first = render(name, np.random.default_rng(7))
    np.random.seed(1)  # the global generator must not matter
    assert np.array_equal(first, render(name, np.random.default_rng(7)))


@pytest.mark.parametrize("name", CLASSES)
def test_another_seed_gives_another_picture(name: str) -> None:
    one, other = (render(name, np.random.default_rng(seed)).astype(int) for seed in (1, 2))
    assert np.abs(one - other).mean() > 2


def test_a_generator_goes_on_from_picture_to_picture() -> None:
    rng = np.random.default_rng(3)
    assert not np.array_equal(render("metal", rng), render("metal", rng))


def test_an_unknown_class_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match="porcelain") as error:
        render("porcelain", np.random.default_rng(0))
    assert all(name in str(error.value) for name in CLASSES)


def test_colour_alone_tells_the_classes_apart_a_little() -> None:
    """Learnable but not trivial: the nearest class mean of tiny thumbnails beats chance (1/12) by far, not all."""
    known, labels = thumbnails(0, 16)
    fresh, truth = thumbnails(1, 8)
    means = np.stack([known[labels == index].mean(0) for index in range(len(CLASSES))])
    guesses = np.linalg.norm(fresh[:, None] - means[None], axis=2).argmin(1)
    accuracy = float((guesses == truth).mean())
    assert 0.2 < accuracy < 0.9
