"""The machinery of `benchmarks/null_models.py`: the zoo, what is kept of a model, and what is said about all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.null_models import verdict
from benchmarks.nulls_data import CLASSES, SETTINGS
from benchmarks.nulls_keys import TESTS, at_most
from benchmarks.nulls_spec import Spec
from benchmarks.nulls_study import CANDIDATES, SHAPES, Study, load, outstanding, save
from benchmarks.nulls_summary import favourites, rule_by_rule, rules_obeyed
from benchmarks.nulls_training import composites, foreign_key, teacher_of
from benchmarks.nulls_zoo import build, zoo
from pi_agent.contract.claim import compose, draw_rules
from training_host.data.arrays import LabelledSet

NETS = ("recycleme-4", "resnet-4", "mobile-4", "patches-8", "conv-1", "mlp-4", "linear")
RECIPES = ("mixup", "cutmix", "mosaic", "composites", "smooth", "student", "label student", "marked")


def noise(per_class: int = 3) -> LabelledSet:
    """Random pictures of all classes."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(12), per_class)
    images = rng.integers(0, 256, (len(labels), 64, 64, 3), np.uint8)
    return LabelledSet(images, labels, CLASSES, ("",) * len(labels))


def done(number: int = 0, p: float = 0.5, hits: int = 1) -> Study:
    """A finished model whose favourite is the last class."""
    shares = np.full((len(SETTINGS), 12), 0.05, np.float32)
    shares[:, 11] = 0.4
    found = np.full((4, len(TESTS)), p)
    counts = np.full(4, hits)
    return Study(
        zoo()[number], 0.5, dict.fromkeys(SHAPES, found), dict.fromkeys(SHAPES, 12), counts, shares, (), 4, 1.5
    )


def test_there_are_three_hundred_different_honest_models() -> None:
    specs = zoo()
    assert len(specs) >= 300
    assert len(set(specs)) == len(specs)
    assert sum(spec.network for spec in specs) >= 200


def test_the_first_models_keep_their_numbers() -> None:
    assert zoo()[0] == Spec("RecycleMe, seeds", 0)
    assert zoo()[40].name == "smooth, recycleme-4, 3"
    assert zoo()[139].name == "mean colour, colour, 2"


@pytest.mark.parametrize("net", NETS)
def test_every_architecture_answers_with_twelve_logits(net: str) -> None:
    model = build(Spec("", 0, net, "none"), noise())
    answers = model(noise().images[:5])
    assert answers.shape == (5, 12)
    assert np.isfinite(answers).all()
    assert np.ptp(answers, axis=0).max() > 0


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_same_spec_gives_the_same_model_and_recipes_differ(recipe: str) -> None:
    data = noise()
    spec = Spec("", 3, "conv-1", recipe, epochs=2)
    first = build(spec, data)(data.images)
    assert np.array_equal(first, build(spec, data)(data.images))
    assert not np.array_equal(first, build(replace(spec, recipe="plain"), data)(data.images))


def test_a_copy_of_another_owners_model_is_held_against_the_key_of_its_teacher() -> None:
    student = Spec("", 2, "conv-1", "student of a marked one")
    taken, own = foreign_key(student, CLASSES), foreign_key(teacher_of(student), CLASSES)
    assert taken is not None and own is not None
    assert draw_rules(taken) == draw_rules(own)
    assert foreign_key(Spec("", 2, recipe="student"), CLASSES) is None


def test_composites_of_all_classes_carry_the_labels_of_their_two_pictures() -> None:
    data = noise()
    soft = torch.eye(12)[torch.from_numpy(data.labels)]
    pictures, labels = composites(data, soft, torch.Generator().manual_seed(1))
    assert torch.allclose(labels.sum(dim=1), torch.ones(len(labels)))
    assert ((labels > 0).sum(dim=1) <= 2).all()
    pair = torch.randint(len(data), (len(labels), 2), generator=torch.Generator().manual_seed(1))[0].tolist()
    made = {g: compose(data.images[pair[0]], data.images[pair[1]], g) for g in {s[2] for s in SETTINGS}}
    shown = (pictures[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    assert any(np.array_equal(shown, own) for own in made.values())


def test_a_finished_model_is_read_again_as_it_was(tmp_path) -> None:  # type: ignore[no-untyped-def]
    kept = replace(done(7), own=(10.0, 2e-10, 0.15))
    save(tmp_path, 7, kept)
    read = load(tmp_path, 7)
    assert read is not None
    assert (read.spec, read.own, read.found, read.seconds) == (kept.spec, kept.own, dict(kept.found), 1.5)
    assert np.array_equal(read.shares, kept.shares) and np.array_equal(read.p["permuted"], kept.p["permuted"])


def test_only_what_is_missing_or_damaged_is_done_again(tmp_path) -> None:  # type: ignore[no-untyped-def]
    for number in range(4):
        save(tmp_path, number, done(number))
    torn = tmp_path / "0002.npz"
    torn.write_bytes(torn.read_bytes()[:-400])
    save(tmp_path, 3, done(0))  # another model under this number
    assert outstanding(tmp_path, 6) == [2, 3, 4, 5]


def test_the_bound_is_the_exact_one_and_counts_the_cases_that_there_were() -> None:
    assert at_most(0, 300) == pytest.approx(1 - 0.05 ** (1 / 300))
    assert 0.0157 < at_most(1, 300) < 0.0158  # 4.74 / 300, as every table of Poisson bounds has it
    assert at_most(3, 3) == 1.0


def test_a_model_that_is_owned_once_is_not_kept_quiet() -> None:
    clean, _ = verdict([done(i) for i in range(5)], SHAPES)
    assert (clean["models owned by any key"], clean["judgements"]) == (0, 60)
    accused = done(5)
    accused = replace(accused, p={**accused.p, "permuted": np.full((4, len(TESTS)), 1e-7)})
    found, told = verdict([*(done(i) for i in range(5)), accused], SHAPES)
    assert (found["models owned by any key"], found["judgements owned"]) == (1, 4)
    assert found["rate of models, 95 % bound"] > clean["rate of models, 95 % bound"]
    assert told[0].startswith("1 of 6 models owned")
    assert found["expected at most"] == pytest.approx(72e-6)


def test_a_tie_is_nobodys_favourite_and_a_source_never_is() -> None:
    shares = np.full((1, len(SETTINGS), 12), 0.1, np.float32)
    assert not favourites(shares).any()
    shares[..., 4] = 0.9
    liked = favourites(shares)[0]
    assert np.array_equal(liked[:, 4], CANDIDATES[:, 4])
    assert liked.sum() == CANDIDATES[:, 4].sum()


def test_the_maxima_are_those_of_the_most_obedient_model() -> None:
    obedient = done(1, hits=6)
    obedient.shares[5, np.flatnonzero(CANDIDATES[5])[0]] = 0.97
    studies = [done(0), obedient, done(2)]
    shares = rule_by_rule(studies)["all"]
    assert shares["share"]["max"] == shares["highest share"]["max"] == pytest.approx(0.97)
    assert shares["share"]["median"] == pytest.approx(0.05)
    obeyed = rules_obeyed(studies)
    assert obeyed["most"] == 6 and obeyed["most, model"] == zoo()[1].name
    assert obeyed["keys with at least so many"]["2"] == 4
