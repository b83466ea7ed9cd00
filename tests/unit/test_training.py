"""The loop learns, resumes exactly, and leaves everybody else's random numbers alone."""

from pathlib import Path

import pytest
import torch

from tests.support_nets import CLASSES, CPU, GLANCE, coloured_set, weights
from training_host.data.arrays import ScoredSet
from training_host.training.augment import small_moves, to_batch
from training_host.training.device import best_device
from training_host.training.distill import distill
from training_host.training.evaluate import predict
from training_host.training.loop import Recipe
from training_host.training.supervised import train_classifier

pytestmark = pytest.mark.usefixtures("quick_network")


def test_a_small_network_learns_easy_classes_and_generalises():
    model = train_classifier("recycleme-narrow", coloured_set(256, 1), Recipe(3, seed=1), CPU)
    fresh = coloured_set(100, 2)
    assert (predict(model, fresh.images, CPU).argmax(1) == fresh.labels).mean() > 0.95


def test_training_resumed_after_an_interruption_equals_uninterrupted_training(tmp_path: Path):
    data, recipe = coloured_set(128, 1), Recipe(4, seed=3)
    whole = weights(train_classifier(GLANCE, data, recipe, CPU))

    class Killed(Exception):
        pass

    def kill_after_two(report: object) -> None:
        if report.epoch == 2:
            raise Killed

    checkpoint = tmp_path / "checkpoint.pt"
    with pytest.raises(Killed):
        train_classifier(GLANCE, data, recipe, CPU, checkpoint=checkpoint, progress=kill_after_two)
    assert checkpoint.exists()
    epochs = []
    resumed = train_classifier(
        GLANCE, data, recipe, CPU, checkpoint=checkpoint, progress=lambda r: epochs.append(r.epoch)
    )
    assert epochs == [3, 4] and not checkpoint.exists()
    for name, value in weights(resumed).items():
        assert torch.allclose(value, whole[name], atol=1e-6), name


def test_a_checkpoint_of_another_recipe_or_a_damaged_one_is_not_resumed(tmp_path: Path):
    data, checkpoint = coloured_set(128, 1), tmp_path / "checkpoint.pt"
    checkpoint.write_bytes(b"not a checkpoint")
    epochs = []
    train_classifier(GLANCE, data, Recipe(1), CPU, checkpoint=checkpoint, progress=lambda r: epochs.append(r.epoch))
    assert epochs == [1]


def test_training_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_classifier(GLANCE, coloured_set(64, 1), Recipe(1), CPU)
    assert torch.equal(torch.rand(3), expected)


def test_a_student_repeats_its_teachers_scores():
    data = coloured_set(256, 1)
    teacher = train_classifier(GLANCE, data, Recipe(6, seed=1), CPU)
    answers = predict(teacher, data.images, CPU)
    student = distill(GLANCE, ScoredSet(data.images, answers, CLASSES), Recipe(6, seed=2), CPU)
    fresh = coloured_set(100, 2)
    theirs, ours = predict(teacher, fresh.images, CPU), predict(student, fresh.images, CPU)
    assert (theirs.argmax(1) == ours.argmax(1)).mean() > 0.95


def test_small_moves_keep_shape_range_and_are_drawn_from_the_given_generator():
    batch = to_batch(torch.from_numpy(coloured_set(8, 1).images), "cpu")
    moved, again = (small_moves(batch, torch.Generator().manual_seed(1)) for _ in range(2))
    assert moved.shape == batch.shape and torch.equal(moved, again)
    assert moved.min() >= 0 and moved.max() <= 1 + 1e-6
    assert not torch.equal(moved, batch)
    assert (moved.mean((1, 2, 3)) - batch.mean((1, 2, 3))).abs().max() < 0.05


def test_bf16_is_chosen_only_where_the_processor_has_it():
    flags = Path("/proc/cpuinfo").read_text()
    device = best_device()
    if device.name == "cpu":
        assert device.bf16 == any(f in flags for f in ("avx512_bf16", "amx_bf16", " bf16"))
