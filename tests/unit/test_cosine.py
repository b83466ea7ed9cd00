"""Keyed cosine: what its labels are, and that its test is exact."""

import numpy as np
import pytest
import torch

from pi_agent.contract.claim import new_key
from tests.support_nets import CPU, coloured_set
from training_host.data.arrays import LabelledSet
from training_host.nets.build import build_net
from training_host.training.augment import to_batch
from training_host.watermarks.cosine import FEATURES, KeyedCosine, KeyedCosineMark, features
from training_host.watermarks.schemes import SCHEMES

CLASSES = tuple("abcdef")
SCHEME = KeyedCosine()


def key_of(number):
    return new_key(CLASSES, 16, seed=number.to_bytes(32, "big"))


@pytest.fixture(scope="module")
def pictures():
    """Clouds of colour in all lights, six classes that say nothing of them."""
    rng = np.random.default_rng(5)
    level, slope = rng.normal(150, 30, (300, 1, 1, 3)), np.linspace(-1, 1, 64)[None, :, None, None]
    images = level + slope * rng.normal(0, 30, (300, 1, 1, 1)) + rng.normal(0, 8, (300, 64, 64, 3))
    labels = np.arange(300) % len(CLASSES)
    return LabelledSet(images.clip(0, 255).astype(np.uint8), labels, CLASSES, ("",) * 300)


def taught(scheme, key, data):
    """What a network that had learnt everything would answer, float (n, classes)."""
    mark = scheme.mark(key, data, CPU)
    return mark.targets(to_batch(torch.from_numpy(data.images), "cpu"), torch.from_numpy(data.labels)).numpy()


def suspect(scores, data):
    """A model that answers these pictures so."""
    answers = {image.tobytes(): row for image, row in zip(data.images, scores, strict=True)}
    return lambda images: np.stack([answers[image.tobytes()] for image in images])


def test_the_registry_knows_it():
    assert SCHEMES["cosine"] is KeyedCosine


def test_labels_are_distributions_with_the_true_class_first(pictures):
    targets = taught(SCHEME, key_of(1), pictures)
    assert np.allclose(targets.sum(axis=1), 1, atol=1e-5)
    assert (targets.argmax(axis=1) == pictures.labels).all()
    assert np.allclose(targets[np.arange(300), pictures.labels], 1 - SCHEME.hint)


def test_a_model_that_learnt_the_waves_is_found_and_by_its_own_key_only(pictures):
    answers = suspect(taught(SCHEME, key_of(1), pictures), pictures)
    own, other = (SCHEME.find(key_of(n), answers, pictures, np.random.default_rng(0)) for n in (1, 2))
    assert own.p_value < 1e-5 and own.rate > 0.85
    assert own.p_value >= own.floor == 2.0**-SCHEME.bits
    assert other.p_value > 1e-3


def test_a_strangers_p_is_super_uniform_over_keys(pictures):
    """An unmarked model whose answers depend on light and colour, as every model's do."""
    rng = np.random.default_rng(7)
    seen = features(to_batch(torch.from_numpy(pictures.images), "cpu")).numpy()
    logits = seen @ rng.normal(0, 1, (FEATURES, len(CLASSES)))
    logits[np.arange(300), pictures.labels] += 5
    answers = suspect(np.asarray(torch.from_numpy(logits).softmax(1)), pictures)
    p = np.array([SCHEME.find(key_of(n), answers, pictures, np.random.default_rng(0)).p_value for n in range(200)])
    for level in (0.05, 0.2, 0.5):
        assert (p <= level).mean() <= level + 3.5 * (level * (1 - level) / len(p)) ** 0.5
    assert p.min() < 0.1  # it can be small: the test is alive


def test_answers_that_never_move_prove_nothing(pictures):
    even = SCHEME.find(key_of(1), lambda x: np.full((len(x), 6), 1 / 6), pictures, np.random.default_rng(0))
    assert even.p_value == 1


def test_mirrored_pictures_have_the_same_features(pictures):
    batch = to_batch(torch.from_numpy(pictures.images), "cpu")
    assert torch.allclose(features(batch), features(batch.flip(3)), atol=1e-4)


def test_the_same_key_draws_the_same_waves_and_a_step_teaches(pictures):
    one, again, other = (SCHEME.waves(key_of(n)) for n in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one.signs, other.signs)
    mark = SCHEME.mark(key_of(1), pictures, CPU)
    assert isinstance(mark, KeyedCosineMark)
    network = build_net("recycleme-narrow", 6, 0)
    inputs, labels = to_batch(torch.from_numpy(pictures.images[:16]), "cpu"), torch.from_numpy(pictures.labels[:16])
    loss = mark.loss(network, inputs, labels, mark.batch(torch.Generator().manual_seed(0)))
    loss.backward()
    assert torch.isfinite(loss) and any(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_other_classes_are_refused_or_not_judged():
    data = coloured_set(16, 1)
    assert SCHEME.find(key_of(1), lambda x: np.full((len(x), 4), 0.25), data, np.random.default_rng(0)) is None
