"""The parts of a distillation recipe do what their names say, and none of them breaks resuming."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.support_nets import CLASSES, CPU, GLANCE, coloured_set, glance, weights
from training_host.data.arrays import ScoredSet
from training_host.data.unasked import Extras
from training_host.nets.layers import without_dropout
from training_host.training.augment import recoloured, to_batch
from training_host.training.average import running_average
from training_host.training.distill import distill, echo_for, epochs_for, steady_for
from training_host.training.evaluate import predict
from training_host.training.kept import Kept
from training_host.training.lesson import Lesson, _echo
from training_host.training.loop import Recipe
from training_host.training.supervised import train_classifier
from training_host.training.teaching import LOSSES, MOVES, Teaching, least_score, loss_for, loss_to_scores, mixed_views

pytestmark = pytest.mark.usefixtures("quick_network")


@pytest.fixture(scope="module")
def teacher(quick_network: None) -> torch.nn.Module:
    return train_classifier(GLANCE, coloured_set(256, 1), Recipe(6, seed=1), CPU)


def answers_to(teacher: torch.nn.Module, count: int = 160) -> ScoredSet:
    images = coloured_set(count, 4).images
    return ScoredSet(images, predict(teacher, images, CPU), CLASSES)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_is_smallest_where_the_student_says_what_the_oracle_said(loss: str):
    scores = torch.softmax(3 * torch.randn(20, 5, generator=torch.Generator().manual_seed(1)), dim=1)
    same = scores.log().requires_grad_()
    value = loss_to_scores(same, scores, loss)
    value.backward()
    assert float(value.detach()) == pytest.approx(0, abs=1e-5) and same.grad.abs().max() < 1e-4
    other = loss_to_scores(scores.roll(1, 1).log(), scores, loss)
    assert float(other) > 0.05


def test_log_scores_hear_small_scores_which_the_divergence_does_not():
    told = torch.tensor([[0.9989, 1e-3, 1e-4, 1e-6]])
    told = told / told.sum()
    swapped = told[:, [0, 1, 3, 2]].log()
    divergence, logarithms = (float(loss_to_scores(swapped, told, loss)) for loss in ("kl", "log-scores"))
    assert divergence < 1e-3 and logarithms == pytest.approx(np.log(100) ** 2, rel=0.05)
    assert float(loss_to_scores(told.log() + 7, told, "log-scores")) == pytest.approx(0, abs=1e-6)


def test_below_what_an_oracle_tells_logarithms_are_not_asked_for():
    told = torch.tensor([[0.90, 0.10, 0.0, 0.0]])
    said = torch.tensor([[0.90, 0.10, 1e-7, 1e-5]]).log()
    assert float(loss_to_scores(said, told, "log-scores", 0.01)) < 1e-4


@pytest.mark.parametrize(
    ("digits", "least", "loss"),
    [(None, 1e-7, "log-scores"), (6, 1e-6, "log-scores"), (2, 1e-2, "log-scores"), (1, 0.1, "kl"), (0, 1, "kl")],
)
def test_the_loss_follows_from_how_finely_an_oracle_tells_its_scores(digits: int | None, least: float, loss: str):
    scores = torch.softmax(3 * torch.randn(5000, 5, generator=torch.Generator().manual_seed(1)), dim=1).numpy()
    scores[0] = [1 - 4e-9, 1e-9, 1e-9, 1e-9, 1e-9]
    told = scores if digits is None else scores.round(digits)
    assert least_score(told) == pytest.approx(least)
    assert loss_for(told) == loss


@pytest.mark.parametrize("kept", [1, 2, 3])
@pytest.mark.parametrize("scaled", [False, True])
def test_an_oracle_of_a_few_best_classes_tells_nothing_about_the_others(kept: int, scaled: bool):
    scores = torch.softmax(2 * torch.randn(500, 5, generator=torch.Generator().manual_seed(1)), dim=1).numpy()
    border = np.sort(scores, axis=1)[:, [-kept]]
    told = np.where(scores >= border, scores, 0)
    assert loss_for(told / told.sum(axis=1, keepdims=True) if scaled else told) == "kl"
    assert loss_for(scores[:0]) == "kl", "no answers, no small scores"


def test_mixed_views_are_plain_faded_and_cut_in_the_promised_numbers():
    batch = torch.rand(16, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    views, again = (mixed_views(batch, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(views, again) and views.shape == batch.shape
    assert torch.equal(views[:8], batch[:8])
    pixels = {tuple(p.tolist()) for p in batch.permute(0, 2, 3, 1).reshape(-1, 3)}
    cut = views[12:].permute(0, 2, 3, 1).reshape(-1, 3)
    assert all(tuple(p.tolist()) in pixels for p in cut), "CutMix invents no pixel"
    assert not torch.equal(views[8:12], batch[8:12]) and not torch.equal(views[12:], batch[12:])
    assert views.min() >= 0 and views.max() <= 1


@pytest.mark.parametrize(
    "teaching",
    [
        Teaching(),
        Teaching(loss="log-scores", moves="none"),
        Teaching(loss="kl+l2", echo=1.0),
        Teaching(steady=0.5),
        Teaching(loss="log-scores", steady=0.5, students=2, echo=1.0, truth=0.5),
    ],
    ids=repr,
)
def test_every_recipe_makes_a_student_that_agrees_and_the_same_seed_the_same_student(
    teaching: Teaching, teacher: torch.nn.Module
):
    more = coloured_set(64, 5)
    data, extras = answers_to(teacher), Extras(more.images, more.labels)
    student, again = (
        distill(GLANCE, data, Recipe(10, seed=2), CPU, teaching=teaching, extras=extras) for _ in range(2)
    )
    fresh = coloured_set(100, 2).images
    assert (predict(student, fresh, CPU).argmax(1) == predict(teacher, fresh, CPU).argmax(1)).mean() > 0.9
    assert not student.training
    after = weights(again)
    assert all(torch.equal(value, after[name]) for name, value in weights(student).items())


def test_the_average_starts_as_a_copy_and_then_follows_slowly():
    model = glance()
    average = running_average(model, decay=0.9)
    name, weight = next(iter(model.named_parameters()))
    before = weight.detach().clone()
    average.update_parameters(model)
    with torch.no_grad():
        weight += 1
    for _ in range(2):
        average.update_parameters(model)
    moved = (dict(average.module.named_parameters())[name] - before).mean()
    assert 0.5 < float(moved) < 1, "early it follows fast"
    assert not any(p.requires_grad for p in average.parameters())


@pytest.mark.parametrize(
    ("teaching", "epochs", "killed_after", "left"),
    [
        (Teaching(), 4, 2, [3, 4]),
        (Teaching(echo=1.0), 4, 2, [3, 4]),
        (Teaching(students=2, echo=1.0), 2, 3, [4, 5, 6]),
        (Teaching(students=2, echo=1.0), 2, 5, [6]),
        (Teaching(steady=0.5), 4, 1, [2, 3, 4]),
        (Teaching("log-scores", steady=0.5), 4, 1, [2, 3, 4]),
        (Teaching("log-scores", steady=0.5), 4, 3, [4]),
        (Teaching(steady=0.5), 4, 2, [3, 4]),
        (Teaching(steady=0.5), 4, 3, [4]),
        (Teaching(steady=0.5, students=1, echo=1.0), 4, 6, [7, 8]),
    ],
)
def test_a_killed_distillation_goes_on_as_if_nothing_had_been_and_repeats_no_epoch(
    teaching: Teaching, epochs: int, killed_after: int, left: list[int], tmp_path: Path, teacher: torch.nn.Module
):
    data, recipe, checkpoint = answers_to(teacher), Recipe(epochs, seed=3), tmp_path / "checkpoint.pt"
    whole = weights(distill(GLANCE, data, recipe, CPU, teaching=teaching))

    class Killed(Exception):
        pass

    def kill(report) -> None:
        if report.epoch == killed_after:
            raise Killed

    with pytest.raises(Killed):
        distill(GLANCE, data, recipe, CPU, teaching=teaching, checkpoint=checkpoint, progress=kill)
    seen = []
    resumed = distill(
        GLANCE, data, recipe, CPU, teaching=teaching, checkpoint=checkpoint, progress=lambda r: seen.append(r.epoch)
    )
    assert seen == left and list(tmp_path.iterdir()) == []
    after = weights(resumed)
    assert all(torch.allclose(value, after[name], atol=1e-6) for name, value in whole.items())


@pytest.mark.parametrize(
    "wrong", [{"loss": "mse"}, {"truth": -0.1}, {"steady": 1.0}, {"moves": "some"}, {"students": -1}, {"echo": -0.1}]
)
def test_nonsense_is_refused(wrong: dict):
    with pytest.raises(ValueError):
        Teaching(**wrong)


def test_true_labels_of_the_pool_help_where_the_oracle_is_wrong(teacher):
    pool, fresh = coloured_set(160, 5), coloured_set(100, 2)
    rng = np.random.default_rng(0)
    nonsense = rng.dirichlet(np.full(4, 0.3), 160).astype(np.float32)
    data = ScoredSet(coloured_set(160, 4).images, nonsense, CLASSES)

    def right(truth: float) -> float:
        extras, teaching = Extras(pool.images, pool.labels), Teaching(truth=truth)
        student = distill(GLANCE, data, Recipe(6, seed=2), CPU, teaching=teaching, extras=extras)
        return float((predict(student, fresh.images, CPU).argmax(1) == fresh.labels).mean())

    assert right(2.0) > 0.85 and right(0.0) < 0.6


def test_only_pictures_of_the_pool_are_moved_where_that_is_asked_for(teacher):
    data = answers_to(teacher)
    pool = np.concatenate([coloured_set(5, 9).images, data.images[:30]])
    moved = {m: Lesson(data, Extras(pool), Teaching(moves=m), CPU)._moved() for m in MOVES}
    assert moved["all"].all() and not moved["none"].any() and torch.equal(moved["plain"], torch.arange(160) < 30)
    assert not Lesson(data, Extras(), Teaching(moves="plain"), CPU)._moved().any()


def test_from_labels_alone_the_classes_are_learnt_and_the_doubts_are_not(teacher):
    data, fresh = answers_to(teacher), coloured_set(100, 2).images
    doubtful = replace(data, scores=(0.6 * data.scores + 0.1).astype(np.float32))
    hard = doubtful.labels_only()
    assert set(np.unique(hard.scores)) == {0, 1} and (hard.scores.argmax(1) == data.scores.argmax(1)).all()
    said = [predict(distill(GLANCE, d, Recipe(10, seed=2), CPU), fresh, CPU) for d in (doubtful, hard)]
    assert (said[0].argmax(1) == said[1].argmax(1)).mean() > 0.9
    assert said[0].max(1).mean() < 0.8 < said[1].max(1).mean()


def test_a_label_that_nobody_knows_is_none(teacher):
    data, pool = answers_to(teacher), coloured_set(40, 5).images
    unknown = Extras(pool, np.full(40, -1, np.int64))
    plain, other = (
        distill(GLANCE, data, Recipe(2, seed=2), CPU, teaching=Teaching(truth=t), extras=e)
        for t, e in ((0.0, Extras()), (1.0, unknown))
    )
    assert all(torch.equal(value, weights(other)[name]) for name, value in weights(plain).items())


def test_steadily_batch_norm_stands_still_and_whatever_else_is_in_the_batch_does_not_matter(teacher):
    """The statistics are those of the network that the student begins with, to the last bit; the weights are not."""
    data = answers_to(teacher)
    begun = weights(teacher)
    student = distill(GLANCE, data, Recipe(3, seed=5), CPU, teaching=Teaching(steady=0.5), start=teacher)
    after = weights(student)
    still = [name for name in after if "running_" in name]
    assert still and all(torch.equal(after[name], begun[name]) for name in still)
    moved = [name for name in after if name.endswith("weight") and not torch.equal(after[name], begun[name])]
    assert len(moved) >= 7
    assert all(torch.equal(value, weights(teacher)[name]) for name, value in begun.items()), "the start is not touched"


def test_those_that_are_heard_are_asked_in_turn(teacher):
    views = to_batch(torch.from_numpy(coloured_set(30, 1).images), "cpu")
    sure = [nn.Sequential(nn.Flatten(), nn.Linear(views[0].numel(), 2)) for _ in range(2)]
    for number, network in enumerate(sure):
        nn.init.zeros_(network[1].weight)
        with torch.no_grad():
            network[1].bias.copy_(torch.tensor([9.0, -9.0] if number == 0 else [-9.0, 9.0]))
    said = _echo(sure, views)
    assert said.shape == (30, 2) and said[0::2, 0].min() > 0.99 and said[1::2, 1].min() > 0.99


def test_other_answers_do_not_use_what_an_interrupted_run_left(tmp_path: Path, teacher):
    """Finished networks are known by data and recipe; a damaged file costs time only."""
    kept = Kept(tmp_path / "checkpoint.pt", "these answers", CPU)
    first = kept.network("rough", glance(), lambda: teacher)
    assert first is teacher and [p.name for p in tmp_path.iterdir()] == ["checkpoint-rough.pt"]
    again = kept.network("rough", glance(), lambda: pytest.fail("it was there"))
    assert all(torch.equal(value, weights(teacher)[name]) for name, value in weights(again).items())
    other = glance(seed=9)
    assert Kept(tmp_path / "checkpoint.pt", "others", CPU).network("rough", glance(), lambda: other) is other
    (tmp_path / "checkpoint-rough.pt").write_bytes(b"damaged")
    assert kept.network("rough", glance(), lambda: other) is other
    kept.done()
    assert not list(tmp_path.iterdir())


def test_what_an_interrupted_run_left_is_not_taken_up_for_other_answers(tmp_path: Path, teacher):
    data, recipe, checkpoint = answers_to(teacher), Recipe(3, seed=3), tmp_path / "checkpoint.pt"
    others = replace(data, scores=np.roll(data.scores, 1, axis=1))

    def kill(report) -> None:
        if report.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distill(GLANCE, data, recipe, CPU, checkpoint=checkpoint, progress=kill)
    assert list(tmp_path.iterdir())
    seen: list[int] = []
    after = distill(GLANCE, others, recipe, CPU, checkpoint=checkpoint, progress=lambda r: seen.append(r.epoch))
    assert seen == [1, 2, 3] and list(tmp_path.iterdir()) == []
    fresh = weights(distill(GLANCE, others, recipe, CPU))
    assert all(torch.equal(value, weights(after)[name]) for name, value in fresh.items())


def test_recoloured_pictures_keep_their_shapes_and_stay_in_range():
    batch = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    changed, again = (recoloured(batch, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(changed, again) and changed.shape == batch.shape
    assert changed.min() >= 0 and changed.max() <= 1 and (changed - batch).abs().mean() > 0.03
    grey = torch.full((1, 3, 4, 4), 0.5)
    one = recoloured(grey, torch.Generator().manual_seed(2))
    assert all(len(torch.unique(one[0, c])) == 1 for c in range(3)), "colours change, not the picture"


@pytest.mark.parametrize(("answers", "epochs"), [(10, 2000), (64, 2000), (500, 286), (2000, 65), (10_000, 60)])
def test_few_answers_are_repeated_until_there_were_enough_steps(answers: int, epochs: int):
    assert epochs_for(answers) == epochs


@pytest.mark.parametrize(
    ("answers", "echo", "alone", "echoing"),
    [(0, 1, 0, 0.3), (500, 1, 0, 0.3), (4999, 1, 0, 0.3), (5000, 0, 0.6, 0.6)],
)
def test_own_networks_count_until_a_student_knows_more(answers: int, echo: float, alone: float, echoing: float):
    assert echo_for(answers) == echo
    assert (steady_for(answers), steady_for(answers, echoing=True)) == (alone, echoing)


def test_without_dropout_every_unit_speaks_and_afterwards_it_is_back():
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 4), nn.Sequential(nn.Dropout(0.2))).train()
    with pytest.raises(KeyboardInterrupt), without_dropout(model):
        assert torch.equal(model[0](torch.ones(50)), torch.ones(50))
        raise KeyboardInterrupt
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.2]
