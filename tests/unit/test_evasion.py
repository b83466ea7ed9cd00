"""The evasion attacks: pictures changed before the network sees them, answers changed before they are given."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from tests.support_nets import CPU, GLANCE, coloured_set, glance, weights
from training_host.data.arrays import LabelledSet
from training_host.removal.answer_change import AnswerChange
from training_host.removal.base import EVASION, Thief
from training_host.removal.input_change import InputChange
from training_host.training.loop import Recipe
from training_host.training.supervised import train_classifier

INPUTS = [
    *(InputChange("jpeg", quality) for quality in (95, 65, 45)),
    *(InputChange("blur", sigma) for sigma in (0.5, 0.7)),
    InputChange("median", 3),
    InputChange("mean", 3),
    *(InputChange("noise", sd) for sd in (0.01, 0.1)),
    InputChange("levels", 16),
    InputChange("mirror"),
]


def smooth_set(count: int, seed: int) -> LabelledSet:
    """Noise in patches of 8x8 pixels, which a photograph's blur leaves alone, around one colour per class."""
    data = coloured_set(count, seed)
    return replace(data, images=data.images[:, ::8, ::8].repeat(8, axis=1).repeat(8, axis=2))


ANSWERS = [AnswerChange("round", 2), AnswerChange("top", 1), AnswerChange("top", 2), AnswerChange("label")]
ANSWERS += [AnswerChange("temperature", t) for t in (0.5, 3.0)]


@pytest.fixture(scope="module")
def thief() -> Thief:
    data = smooth_set(256, 1)
    network = train_classifier(GLANCE, data, Recipe(3, seed=1), CPU, start=glance())
    return Thief(network, GLANCE, data, CPU, 3, 7, lambda number: network)


@pytest.mark.parametrize("attack", [*INPUTS, *ANSWERS], ids=repr)
def test_every_evasion_is_deterministic_keeps_network_and_task_and_gives_scores(attack, thief):
    before, fresh = weights(thief.network), smooth_set(80, 2)
    shown = fresh.images.copy()
    stolen, again = (attack.steal(thief) for _ in range(2))
    scores = stolen.scores_of(fresh.images)
    assert attack.kind == EVASION and stolen.network is None
    assert scores.shape == (80, 4) and scores.dtype == np.float32
    assert np.isfinite(scores).all() and np.allclose(scores.sum(1), 1, atol=1e-5)
    assert np.array_equal(scores, again.scores_of(fresh.images))
    assert np.array_equal(scores, stolen.scores_of(fresh.images))
    assert np.array_equal(shown, fresh.images)
    assert all(torch.equal(value, before[name]) for name, value in weights(thief.network).items())
    assert (scores.argmax(1) == fresh.labels).mean() > 0.9


@pytest.mark.parametrize("attack", INPUTS, ids=repr)
def test_pictures_change_and_stay_pictures(attack):
    images = coloured_set(6, 3).images
    changed = attack.apply(images, np.random.default_rng(0))
    assert changed.shape == images.shape and changed.dtype == np.uint8
    assert not np.array_equal(changed, images)
    assert attack.apply(images[:0], np.random.default_rng(0)).shape == (0, 64, 64, 3)


def test_each_change_of_pictures_does_what_its_name_says():
    images, rng = coloured_set(4, 3).images, np.random.default_rng(0)
    assert np.array_equal(InputChange("mirror").apply(images, rng), images[:, :, ::-1])
    assert len(np.unique(InputChange("levels", 16).apply(images, rng))) <= 16
    error = [np.abs(InputChange("jpeg", q).apply(images, rng).astype(int) - images).mean() for q in (95, 65, 45)]
    assert error[0] < error[1] < error[2]
    assert np.array_equal(InputChange("median", 3).apply(images, rng)[1], cv2.medianBlur(images[1], 3))
    inner = InputChange("mean", 3).apply(images, rng)[0, 5, 5]
    assert np.allclose(inner, images[0, 4:7, 4:7].reshape(9, 3).mean(0), atol=1)
    middle = np.full((4, 64, 64, 3), 128, np.uint8)
    assert InputChange("noise", 0.1).apply(middle, rng).std() == pytest.approx(25.5, rel=0.05)
    assert InputChange("blur", 0.7).apply(images, rng).std() < InputChange("blur", 0.5).apply(images, rng).std()
    red = np.zeros((1, 64, 64, 3), np.uint8) + np.array([220, 20, 20], np.uint8)
    assert np.abs(InputChange("jpeg", 95).apply(red, rng).astype(int) - red).max() < 8


def test_each_change_of_answers_does_what_its_name_says():
    scores = np.array([[0.701, 0.2, 0.098, 0.001], [0.25, 0.26, 0.24, 0.25]], np.float32)
    assert np.allclose(AnswerChange("round", 1).apply(scores)[0], [0.7, 0.2, 0.1, 0.0])
    assert np.array_equal(AnswerChange("label").apply(scores), [[1, 0, 0, 0], [0, 1, 0, 0]])
    top = AnswerChange("top", 2).apply(scores)
    assert ((top > 0).sum(1) == 2).all() and np.isclose(top[0, 0] / top[0, 1], 0.701 / 0.2)
    flat, sharp = (AnswerChange("temperature", t).apply(scores) for t in (2.0, 0.5))
    assert flat[0].max() < scores[0].max() < sharp[0].max()
    assert np.isclose(sharp[0, 0] / sharp[0, 1], (0.701 / 0.2) ** 2)


def test_rounding_that_leaves_nothing_tells_the_label():
    scores = np.full((1, 300), 1 / 300, np.float32)
    scores[0, 7] += 1e-4
    told = AnswerChange("round", 2).apply(scores)
    assert told[0, 7] == 1 and told.sum() == 1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: InputChange("sepia"),
        lambda: InputChange("median", 4),
        lambda: InputChange("blur", 0),
        lambda: InputChange("levels", 1),
        lambda: AnswerChange("lie"),
        lambda: AnswerChange("top", 0),
        lambda: AnswerChange("temperature", 0),
    ],
)
def test_parameters_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValueError):
        wrong()
