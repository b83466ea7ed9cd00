"""Own networks answer for what nobody asked, as coarsely as the oracle."""

from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from tests.support_nets import CLASSES, CPU, GLANCE, coloured_set
from training_host.data.arrays import ScoredSet
from training_host.nets.build import build_net
from training_host.training.completed import completed, geometric_mean
from training_host.training.evaluate import predict
from training_host.training.teaching import least_score, loss_for

POOL = coloured_set(40, 3).images
OWN_SEEDS = (1, 2)


pytestmark = pytest.mark.usefixtures("quick_network")


@pytest.fixture(scope="module")
def own(quick_network: None) -> list[nn.Module]:
    return [build_net(GLANCE, len(CLASSES), seed) for seed in OWN_SEEDS]


def answers(images: np.ndarray, digits: int = 7) -> ScoredSet:
    scores = np.random.default_rng(0).dirichlet(np.ones(len(CLASSES)), len(images)).round(digits)
    return ScoredSet(images, scores.astype(np.float32), CLASSES)


def test_answers_come_first_and_stay_and_every_other_picture_gets_what_the_networks_say(own: list[nn.Module]):
    foreign = coloured_set(5, 9).images
    asked = answers(np.concatenate([POOL[[3, 17]], foreign]))
    joined = completed(asked, POOL, own, CPU)
    assert np.array_equal(joined.images[:7], asked.images) and np.array_equal(joined.scores[:7], asked.scores)
    rest = np.delete(POOL, [3, 17], axis=0)
    assert np.array_equal(joined.images[7:], rest)
    said = geometric_mean([predict(network, rest, CPU) for network in own])
    assert joined.scores[7:] == pytest.approx(said) and joined.scores.dtype == np.float32


def test_what_networks_say_counts_as_much_as_an_exact_answer(own: list[nn.Module]):
    asked = replace(answers(POOL[:3]), weights=np.array([0.2, 0.4, 0.6], np.float32))
    assert completed(asked, POOL, own, CPU).weights.tolist() == [*asked.weights.tolist(), *[1] * 37]
    assert completed(asked, None, own, CPU).weights is asked.weights
    assert completed(answers(POOL[:3]), POOL, own, CPU).weights is None


def test_nothing_is_added_where_there_is_nothing_to_add(own: list[nn.Module]):
    asked = answers(POOL)
    assert completed(asked, POOL, own, CPU) is asked
    assert completed(asked, None, own, CPU) is asked and completed(asked, POOL[:5], [], CPU) is asked


def test_without_answers_all_of_the_pool_is_theirs(own: list[nn.Module]):
    joined = completed(ScoredSet.empty(POOL.shape[1:3], CLASSES), POOL, own, CPU)
    assert np.array_equal(joined.images, POOL) and joined.scores.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_own_networks_do_not_tell_what_the_oracle_rounds_away(own: list[nn.Module]):
    asked = answers(POOL[:20], digits=2)
    joined, fine = completed(asked, POOL, own, CPU), completed(answers(POOL[:20]), POOL, own, CPU)
    assert least_score(joined.scores) >= least_score(asked.scores) == pytest.approx(0.01)
    kept = joined.scores[20:] > 0
    assert np.array_equal(joined.scores[20:][kept], fine.scores[20:][kept])


def test_an_oracle_of_labels_does_not_silence_own_networks(own: list[nn.Module]):
    joined = completed(answers(POOL[:20]).labels_only(), POOL, own, CPU)
    assert joined.scores[20:].sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert loss_for(joined.scores[:20]) == "kl"


def test_the_geometric_mean_is_the_softmax_of_mean_logits():
    logits = np.random.default_rng(1).normal(size=(3, 8, 5)) * 2
    votes = [np.exp(z) / np.exp(z).sum(axis=1, keepdims=True) for z in logits]
    mean = np.exp(logits.mean(axis=0))
    assert geometric_mean(votes) == pytest.approx(mean / mean.sum(axis=1, keepdims=True), abs=1e-6)
    certain = np.array([[1.0, 0.0]], dtype=np.float32)
    assert np.isfinite(geometric_mean([certain, certain[:, ::-1]])).all()
