"""Extraction: students learn what the oracle tells them, no more, and ask no more than they may."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from pi_agent.contract.claim import compose
from tests.support_nets import CPU, GLANCE, coloured_set, weights
from training_host.removal.base import EVASION, EXTRACTION, MODIFICATION, Stolen, Thief
from training_host.removal.chain import Chain
from training_host.removal.ensemble import Ensemble
from training_host.removal.mixup_thief import KINDS, MixupThief, mix
from training_host.removal.retrain import MODES, Retrain, as_served
from training_host.training.augment import to_batch
from training_host.training.evaluate import predict
from training_host.training.loop import Recipe
from training_host.training.supervised import train_classifier

OTHER = "mobile-small"
OWNED, FRESH = coloured_set(192, 1), coloured_set(100, 2)


class Changed(nn.Module):
    """A network whose logits are changed by a function of pictures and logits; keeps every picture that it is asked."""

    def __init__(self, net: nn.Module, change=lambda pictures, logits: logits) -> None:
        super().__init__()
        self.net, self.change, self.asked = net, change, []

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        self.asked.extend((pictures * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
        return self.change(pictures, self.net(pictures))


pytestmark = pytest.mark.usefixtures("quick_network")


@pytest.fixture(scope="module")
def teacher(quick_network: None) -> nn.Module:
    return train_classifier(GLANCE, OWNED, Recipe(6, seed=1), CPU)


@pytest.fixture(scope="module")
def honest(quick_network: None) -> list[nn.Module]:
    return [train_classifier(GLANCE, OWNED, Recipe(3, seed=seed), CPU) for seed in (11, 12)]


@pytest.fixture
def thief(teacher: nn.Module, honest: list[nn.Module]) -> Thief:
    return Thief(teacher, GLANCE, OWNED, CPU, epochs=4, seed=5, honest=honest.__getitem__)


def agreement(stolen: Stolen, teacher: nn.Module) -> float:
    """On pictures that nobody was trained with."""
    theirs = predict(teacher, FRESH.images, CPU)
    return float((stolen.scores_of(FRESH.images).argmax(1) == theirs.argmax(1)).mean())


STUDENTS = [
    *(Retrain(mode) for mode in MODES),
    Retrain(budget=100, augmented=1),
    Retrain(arch=OTHER, temperature=3.0, true_labels=0.5, smoothing=0.1, drop=0.1),
    MixupThief(),
    MixupThief(asks=True),
    Ensemble(2),
    Chain(Retrain(), Retrain("labels")),
]


@pytest.mark.parametrize("attack", STUDENTS, ids=repr)
def test_a_student_agrees_with_its_teacher_and_leaves_it_as_it_is(attack, thief: Thief):
    before = weights(thief.network)
    stolen = attack.steal(thief)
    assert agreement(stolen, thief.network) > 0.85
    assert attack.kind == EXTRACTION and stolen.network is not None and not stolen.network.training
    assert stolen.network is not thief.network and not thief.network.training
    for name, value in weights(thief.network).items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(
    "attack",
    [
        Retrain(budget=64, augmented=1, drop=0.2),
        MixupThief(),
        MixupThief(asks=True),
        Ensemble(1),
        Chain(Retrain(), Retrain()),
    ],
    ids=repr,
)
def test_the_same_thief_gets_the_same_student_and_another_gets_another(attack, thief: Thief):
    brief = replace(thief, epochs=1)
    first, again, other = (weights(attack.steal(t).network) for t in (brief, brief, replace(brief, seed=6)))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_more_than_one_picture_is_needed_and_nonsense_is_refused():
    for wrong in (
        {"mode": "all"},
        {"budget": 1},
        {"augmented": -1},
        {"temperature": 0.0},
        {"true_labels": 1.5},
        {"smoothing": -0.1},
        {"drop": 1.0},
        {"epochs": 0.0},
        {"mode": "labels", "temperature": 2.0},
    ):
        with pytest.raises(ValueError):
            Retrain(**wrong)
    for make in (
        lambda: MixupThief("thirds"),
        lambda: MixupThief(share=1.0),
        lambda: Ensemble(0),
        lambda: Ensemble(serve="tea"),
    ):
        with pytest.raises(ValueError):
            make()


def test_budgets_are_kept(teacher: nn.Module, thief: Thief):
    def asked_by(attack) -> list[np.ndarray]:
        counting = Changed(teacher)
        attack.steal(replace(thief, network=counting, epochs=1))
        return counting.asked

    owned = {image.tobytes() for image in OWNED.images}
    hundred = asked_by(Retrain(budget=100))
    assert len(hundred) == 100 and len({image.tobytes() for image in hundred} & owned) == 100
    varied = asked_by(Retrain(budget=50, augmented=2))
    assert len(varied) == 150 and len({image.tobytes() for image in varied} & owned) == 50
    assert len({image.tobytes() for image in varied}) == 150
    assert len(asked_by(Retrain(budget=10_000))) == len(asked_by(Ensemble(1))) == len(OWNED)
    assert len(asked_by(Chain(Retrain(), Retrain()))) == len(OWNED)


def test_the_interpolating_thief_asks_no_mix_and_the_other_one_asks_as_many_as_pictures(
    teacher: nn.Module, thief: Thief
):
    owned = {image.tobytes() for image in OWNED.images}
    for kind in (*KINDS, "all"):
        counting = Changed(teacher)
        MixupThief(kind).steal(replace(thief, network=counting, epochs=1))
        assert [image.tobytes() for image in counting.asked] == [image.tobytes() for image in OWNED.images]
    counting = Changed(teacher)
    MixupThief("halves", asks=True).steal(replace(thief, network=counting, epochs=1))
    mixes = [image for image in counting.asked if image.tobytes() not in owned]
    assert len(counting.asked) == 2 * len(OWNED) and len(mixes) > 0.9 * len(OWNED)


def test_small_budgets_are_trained_for_as_many_steps_as_large_ones(teacher: nn.Module, thief: Thief):
    large = coloured_set(640, 3)

    def steps(budget: int | None, augmented: int = 0) -> int:
        reports = []
        short = replace(thief, pictures=large, epochs=2, progress=reports.append)
        Retrain(budget=budget, augmented=augmented).steal(short)
        count = (budget or len(large)) * (1 + augmented)
        return len(reports) * max(1, count // 64)

    assert steps(None) == 20
    assert 17 <= steps(500) <= 23 and 17 <= steps(300, augmented=1) <= 23
    assert 3 <= steps(100) <= 5


def test_every_mode_destroys_what_it_should():
    scores = np.array([[0.5, 0.3, 0.15, 0.05], [0.004, 0.008, 0.985, 0.003]], np.float32)
    moved = np.array([[0.5, 0.05, 0.3, 0.15], [0.008, 0.004, 0.985, 0.003]], np.float32)
    weaker = np.array([[0.3, 0.28, 0.22, 0.2], [0.1, 0.2, 0.4, 0.3]], np.float32)
    assert np.array_equal(as_served(scores, "scores"), scores)
    assert np.allclose(as_served(scores, "top1"), as_served(moved, "top1"))
    assert np.allclose(as_served(scores, "top1").max(1), scores.max(1))
    assert not np.allclose(as_served(scores, "top1"), as_served(weaker, "top1"))
    assert np.array_equal(as_served(scores, "labels"), as_served(weaker, "labels"))
    nearly = scores + np.array([[0.001, -0.001, 0.001, -0.001]] * 2, np.float32)
    assert np.array_equal(as_served(scores, "rounded")[0], as_served(nearly, "rounded")[0])
    assert (as_served(scores, "rounded")[1, [0, 3]] == 0).all()
    for mode in MODES:
        served = as_served(scores, mode)
        assert served.dtype == np.float32 and np.allclose(served.sum(1), 1)
        assert np.array_equal(served.argmax(1), scores.argmax(1))
    many = np.full((1, 300), 1 / 300, np.float32)
    assert np.allclose(as_served(many, "rounded"), many)
    with pytest.raises(ValueError, match="top1"):
        as_served(scores, "all")


def test_a_thief_who_gets_labels_cannot_tell_two_teachers_of_the_same_opinion(teacher: nn.Module, thief: Thief):
    vague = Changed(teacher, lambda pictures, logits: 0.2 * logits)
    brief = replace(thief, epochs=1)

    def students(mode: str) -> list[dict[str, torch.Tensor]]:
        return [weights(Retrain(mode).steal(replace(brief, network=net)).network) for net in (teacher, vague)]

    for mode, alike in (("labels", True), ("scores", False), ("rounded", False), ("top1", False)):
        first, second = students(mode)
        assert all(torch.equal(first[name], second[name]) for name in first) == alike, mode


def confidence(stolen: Stolen) -> float:
    """Mean score of the true class."""
    return float(stolen.scores_of(FRESH.images)[np.arange(len(FRESH)), FRESH.labels].mean())


def test_true_labels_make_up_for_wrong_answers(teacher: nn.Module, thief: Thief):
    liar = replace(thief, network=Changed(teacher, lambda pictures, logits: logits.roll(1, dims=1)))
    assert agreement(Retrain().steal(liar), teacher) < 0.1
    assert agreement(Retrain(true_labels=1.0).steal(liar), teacher) > 0.9


def test_answers_that_do_not_fit_the_others_are_dropped(teacher: nn.Module, thief: Thief):
    def lies_sometimes(pictures: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        chosen = (pictures[:, 0, 0, 0] * 255).round().long() % 6 == 0
        return 4 * torch.where(chosen[:, None], logits.roll(2, dims=1), logits)

    poisoned = replace(thief, network=Changed(teacher, lies_sometimes), epochs=8)
    believed, doubted = (confidence(Retrain(drop=drop).steal(poisoned)) for drop in (0.0, 0.25))
    assert doubted > believed + 0.05


def test_smoothing_makes_a_student_less_sure(thief: Thief):
    assert confidence(Retrain("labels", smoothing=0.6).steal(thief)) < confidence(Retrain("labels").steal(thief)) - 0.1


def test_temperature_stresses_what_the_small_scores_say(teacher: nn.Module, thief: Thief):
    sure = Changed(teacher, lambda pictures, logits: 2 * logits)
    scores = predict(sure, FRESH.images, CPU)
    errors = []
    for temperature in (1.0, 4.0):
        student = Retrain(temperature=temperature, epochs=6).steal(replace(thief, network=sure))
        errors.append(float(np.abs(np.log(student.scores_of(FRESH.images) + 1e-9) - np.log(scores + 1e-9)).mean()))
    assert errors[1] < errors[0]


def test_mixes_consist_of_their_parts_in_the_shares_that_are_told():
    generator = torch.Generator().manual_seed(0)
    flat = torch.tensor([0.0, 1.0, 10.0, 100.0])[:, None, None, None, None].expand(4, 50, 3, 64, 64)
    for kind, used in (("mixup", 2), ("halves", 2), ("quarters", 4), ("window", 2)):
        mixed, shares = mix(flat, kind, generator)
        assert mixed.shape == (50, 3, 64, 64) and shares.shape == (used, 50)
        assert torch.allclose(shares.sum(0), torch.ones(50))
        expected = (shares * torch.tensor([0.0, 1.0, 10.0, 100.0])[:used, None]).sum(0)
        assert torch.allclose(mixed.mean((1, 2, 3)), expected, atol=1e-3), kind
        if kind != "mixup":
            assert set(mixed.unique().tolist()) == set([0.0, 1.0, 10.0, 100.0][:used])
        if kind in ("mixup", "window"):
            assert shares[0].std() > 0.1
        else:
            assert torch.allclose(shares, torch.full_like(shares, 1 / used))
    with pytest.raises(ValueError, match="halves"):
        mix(flat, "thirds", generator)


def test_halves_are_the_composites_of_a_mark():
    batch = to_batch(torch.from_numpy(OWNED.images[:80]), "cpu").reshape(2, 40, 3, 64, 64)
    mixed, _ = mix(torch.cat([batch, batch]), "halves", torch.Generator().manual_seed(0))
    found = set()
    for i, picture in enumerate((mixed * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()):
        fits = {
            g for g in ("left-right", "top-bottom") if np.array_equal(picture, compose(*OWNED.images[[i, 40 + i]], g))
        }
        assert len(fits) == 1
        found |= fits
    assert len(found) == 2


def test_a_thief_who_asks_mixes_learns_what_the_oracle_makes_of_them_and_the_interpolating_one_does_not(
    teacher: nn.Module, thief: Thief
):
    def secret(pictures: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Where left and right half differ in colour, it is class 3: a mark of composites."""
        left, right = (half.mean((2, 3)) for half in (pictures[..., :32], pictures[..., 32:]))
        composite = (left - right).abs().amax(1) > 0.2
        return torch.where(composite[:, None], torch.tensor([0.0, 0.0, 0.0, 9.0]), logits)

    marked = Changed(teacher, secret)
    some, others = (FRESH.images[FRESH.labels == label][:15] for label in (0, 1))
    composites = compose(some, others, "left-right")
    assert (predict(marked, composites, CPU).argmax(1) == 3).all()
    rates = []
    for asks in (True, False):
        stolen = MixupThief("halves", asks=asks, epochs=6).steal(replace(thief, network=marked))
        assert agreement(stolen, teacher) > 0.85
        rates.append(float((stolen.scores_of(composites).argmax(1) == 3).mean()))
    assert rates[0] > 0.7 and rates[1] < 0.3


def test_an_ensembles_scores_are_the_average_and_a_vote_serves_them_itself(
    teacher: nn.Module, honest: list[nn.Module], thief: Thief
):
    vote = Ensemble(2, "vote")
    stolen = vote.steal(thief)
    expected = np.mean([predict(net, FRESH.images, CPU) for net in (teacher, *honest)], axis=0)
    assert vote.kind == EVASION and stolen.network is None
    assert np.allclose(stolen.scores_of(FRESH.images), expected, atol=1e-6)
    assert not np.allclose(expected, predict(teacher, FRESH.images, CPU), atol=1e-3)


@dataclass(frozen=True)
class Scaled:
    """A modification for chains: the network with its logits scaled."""

    by: float
    kind: str = MODIFICATION

    def steal(self, thief: Thief) -> Stolen:
        return Stolen.of(Changed(thief.network, lambda pictures, logits: self.by * logits).eval(), thief.device)


def test_a_chain_goes_on_from_what_the_first_attack_left(teacher: nn.Module, thief: Thief):
    stolen = Chain(Scaled(2.0), Scaled(3.0)).steal(thief)
    fresh = to_batch(torch.from_numpy(FRESH.images), "cpu")
    with torch.no_grad():
        expected = torch.softmax(6 * teacher(fresh), 1).numpy()
    assert np.allclose(stolen.scores_of(FRESH.images), expected, atol=1e-5)


def test_a_chain_is_of_the_kind_that_goes_further():
    assert Chain(Scaled(1.0), Scaled(1.0)).kind == MODIFICATION
    assert Chain(Scaled(1.0), Retrain()).kind == Chain(Retrain(), Scaled(1.0)).kind == EXTRACTION
    assert Chain(Scaled(1.0), Scaled(1.0, EVASION)).kind == MODIFICATION


def test_a_chain_knows_the_architecture_that_an_attack_chose(thief: Thief):
    seen = []

    @dataclass(frozen=True)
    class Look(Scaled):
        def steal(self, thief: Thief) -> Stolen:
            seen.append(thief.arch)
            return super().steal(thief)

    brief = replace(thief, epochs=1)
    nested = Chain(Chain(Retrain(arch=OTHER), Look(1.0)), Look(1.0)).steal(brief)
    assert seen == [OTHER] * 2 and nested.arch == OTHER
    Chain(Scaled(1.0), Look(1.0)).steal(brief)
    assert seen[-1] == GLANCE


def test_a_student_of_the_student_does_not_start_where_its_teacher_did(thief: Thief):
    nothing = replace(thief, epochs=1)
    begun = []

    @dataclass(frozen=True)
    class Begin(Retrain):
        def _loss_of(self, model, *rest):
            begun.append(weights(model))
            return super()._loss_of(model, *rest)

    Chain(Begin(), Begin()).steal(nothing)
    first, second = begun
    assert not torch.equal(first["features.0.weight"], second["features.0.weight"])


def test_a_chain_after_a_vote_says_that_there_is_no_network(thief: Thief):
    with pytest.raises(ValueError, match="leaves no network"):
        Chain(Ensemble(1, "vote"), Retrain()).steal(thief)
