"""Own networks are corrected by what the oracle answered, and by nothing else."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from pi_agent.contract.metrics import mean_l2
from tests.support_nets import CLASSES, CPU, coloured_set, weights
from training_host.data.arrays import ScoredSet
from training_host.nets.layers import last_layer, listening, weight_layers
from training_host.training.augment import to_batch
from training_host.training.committee import Committee, _ridge, committee
from training_host.training.completed import completed, geometric_mean
from training_host.training.evaluate import predict

ASKED, OTHERS = coloured_set(80, 3).images, coloured_set(60, 4).images


pytestmark = pytest.mark.usefixtures("quick_network")


@pytest.fixture(scope="module")
def oracle(own: list[nn.Module]) -> nn.Module:
    """Sees what the first of them sees, and makes something else of it."""
    network = copy.deepcopy(own[0])
    last_layer(network).weight.data.mul_(-1)
    return network


def answers(oracle: nn.Module, digits: int | None = None) -> ScoredSet:
    scores = predict(oracle, ASKED, CPU)
    return ScoredSet(ASKED, scores if digits is None else scores.round(digits).astype(np.float32), CLASSES)


def error(said: np.ndarray, oracle: nn.Module) -> float:
    return mean_l2(predict(oracle, OTHERS, CPU), said)


@pytest.mark.parametrize("digits", [None, 3, 2])
def test_on_pictures_that_nobody_asked_it_is_nearer_to_the_oracle(
    own: list[nn.Module], oracle: nn.Module, digits: int | None
):
    (together,) = committee(own, answers(oracle, digits), CPU)
    mean = error(geometric_mean([predict(network, OTHERS, CPU) for network in own]), oracle)
    assert error(predict(together, OTHERS, CPU), oracle) < 0.4 * mean


def test_what_cannot_be_heard_corrects_nothing(own: list[nn.Module], oracle: nn.Module):
    for told in (answers(oracle).labels_only(), ScoredSet.empty((64, 64), CLASSES)):
        assert committee(own, told, CPU) == own
    assert committee([], answers(oracle), CPU) == []


def test_networks_stay_as_they_are_and_the_same_answers_give_the_same(own: list[nn.Module], oracle: nn.Module):
    before = [weights(network) for network in own]
    first, second = (committee(own, answers(oracle), CPU)[0] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(weights(first).values(), weights(second).values(), strict=True))
    for network, was in zip(own, before, strict=True):
        assert all(torch.equal(value, was[name]) for name, value in weights(network).items())
        assert not any(layer._forward_hooks for layer in network.modules())


def test_an_answer_does_not_depend_on_what_else_is_in_the_batch(own: list[nn.Module], oracle: nn.Module):
    together = Committee(own, answers(oracle), CPU).eval()
    batch = to_batch(torch.from_numpy(OTHERS[:8]), "cpu")
    with torch.no_grad():
        said = together(batch)
        assert torch.allclose(said[:1], together(batch[:1]), atol=1e-4)
    assert said.mean(dim=1).numpy() == pytest.approx(0, abs=1e-4)


def test_of_too_many_answers_the_first_ones_are_learnt(
    own: list[nn.Module], oracle: nn.Module, monkeypatch: pytest.MonkeyPatch
):
    told = answers(oracle)
    few = Committee(own, ScoredSet(told.images[:30], told.scores[:30], CLASSES), CPU)
    everything = Committee(own, told, CPU)
    monkeypatch.setattr("training_host.training.committee.MOST", 30)
    first = Committee(own, told, CPU)
    assert torch.allclose(first.weights, few.weights, atol=1e-5)
    assert not torch.allclose(first.weights, everything.weights, atol=1e-3)


def test_oracles_that_own_networks_repeat_need_no_correction(own: list[nn.Module]):
    mean = geometric_mean([predict(network, ASKED, CPU) for network in own])
    together = Committee(own, ScoredSet(ASKED, mean, CLASSES), CPU)
    assert float(together.weights.abs().max()) < 1e-4


def test_completed_asks_it_for_the_rest_of_the_pool(own: list[nn.Module], oracle: nn.Module):
    told = answers(oracle)
    joined = completed(told, np.concatenate([ASKED, OTHERS]), committee(own, told, CPU), CPU)
    assert np.array_equal(joined.images[len(ASKED) :], OTHERS)
    mean = error(geometric_mean([predict(network, OTHERS, CPU) for network in own]), oracle)
    assert error(joined.scores[len(ASKED) :], oracle) < 0.4 * mean


@pytest.mark.parametrize("shape", [(30, 7), (7, 30)])
def test_both_ways_through_the_regression_are_the_normal_equations(shape: tuple[int, int]):
    generator = torch.Generator().manual_seed(0)
    points, wanted = torch.randn(shape, generator=generator), torch.randn((shape[0], 3), generator=generator)
    found = _ridge(points.double(), wanted.double()).numpy()
    x, y = points.double().numpy(), wanted.double().numpy()
    assert x.T @ (y - x @ found) == pytest.approx(0.3 * found, abs=1e-9)


def test_one_listens_to_what_a_layer_is_given(own: list[nn.Module]):
    layers = [layer for layer in weight_layers(own[0]) if isinstance(layer, nn.Linear)]
    batch = to_batch(torch.from_numpy(OTHERS[:4]), "cpu")
    with torch.no_grad(), listening(layers, inputs=True) as given, listening(layers) as said:
        own[0](batch)
        for layer in layers:
            assert torch.allclose(layer(given[layer].clone()), said[layer], atol=1e-5)
