"""Noisy answers count by how often a picture was asked; exact ones all alike."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pi_agent.contract.files import sha256_hex
from pi_agent.contract.manifest import InputSpec
from pi_agent.contract.transfer_set import TransferItem, write_transfer_set
from tests.support import query_jpeg
from training_host.data.arrays import load_transfer_sets
from training_host.data.noise import COPY_L2, noise_weights
from training_host.training.teaching import LOSSES, loss_to_scores

CLASSES = 5


def told(times: int, noise: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.2 + noise * rng.normal(size=(times, CLASSES))).astype(np.float32)


@pytest.mark.parametrize("answers", [[], [told(1, 0.1, 0)] * 3, [told(4, 0.0, 0), told(1, 0.0, 1)]])
def test_without_repeats_or_without_noise_nothing_is_weighed(answers: list[np.ndarray]):
    assert noise_weights(answers) is None


def test_weights_are_inverse_variances_beside_a_copys_own_error():
    answers = [told(1, 0.1, 0), told(4, 0.1, 1), *(told(2, 0.1, 2 + seed) for seed in range(400))]
    weights = noise_weights(answers)
    assert weights is not None and weights.dtype == np.float32 and weights.shape == (402,)
    for weight, times in zip(weights, (1, 4, 2), strict=False):
        assert weight == pytest.approx(COPY_L2**2 / (COPY_L2**2 + CLASSES * 0.1**2 / times), rel=0.1)
    assert np.ptp(weights[2:]) == 0, "the noise is pooled: two answers say little of it"


@given(st.lists(st.tuples(st.integers(1, 5), st.floats(0, 1)), max_size=12))
def test_whatever_was_answered_weights_lie_in_0_to_1_and_grow_with_the_times(asked: list[tuple[int, float]]):
    answers = [told(times, noise, seed) for seed, (times, noise) in enumerate(asked)]
    weights = noise_weights(answers)
    if weights is None:
        return
    assert ((weights > 0) & (weights <= 1)).all()
    order = np.argsort([len(vectors) for vectors in answers])
    assert (np.diff(weights[order]) >= 0).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_a_row_counts_by_its_weight(loss: str):
    generator = torch.Generator().manual_seed(0)
    logits, scores = torch.randn(3, 4, generator=generator), torch.rand(3, 4, generator=generator).softmax(dim=1)
    alone = [float(loss_to_scores(logits[[i]], scores[[i]], loss)) for i in range(3)]
    weighted = loss_to_scores(logits, scores, loss, weights=torch.tensor([1.0, 0.5, 0.0]))
    assert float(weighted) == pytest.approx((alone[0] + 0.5 * alone[1]) / 3, rel=1e-5)
    assert float(loss_to_scores(logits, scores, loss)) == pytest.approx(sum(alone) / 3, rel=1e-5)


def test_repeats_of_two_nights_are_weighed_together(tmp_path: Path):
    classes = tuple(f"class{i}" for i in range(CLASSES))

    def night(name: str, first: int, noise: float) -> Path:
        items = []
        for seed in range(first, 3):
            vector = told(1, noise, seed)[0].clip(0.01)
            jpeg, vector = query_jpeg(seed), vector / vector.sum()
            items.append(TransferItem(sha256_hex(jpeg), jpeg, classes, vector[None]))
        write_transfer_set(tmp_path / name, {}, items)
        return tmp_path / name

    first, second = night("1.tar", 0, 0.05), night("2.tar", 1, 0.02)
    assert load_transfer_sets([first], InputSpec()).weights is None
    weights = load_transfer_sets([first, second], InputSpec()).weights
    assert weights is not None and weights[0] < weights[1] == weights[2]
