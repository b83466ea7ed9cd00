"""Attacks by other questions, by doubt, by adversarial pictures and by what backdoor removal knows: their promises."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as nn_functional
from torch import nn

from tests.support_nets import CPU, coloured_set, weights
from training_host.data.arrays import LabelledSet
from training_host.data.dead_leaves import dead_leaves
from training_host.nets import build
from training_host.nets.layers import conv_filters, last_layer, listening, norms_of
from training_host.nets.names import WIDTHS
from training_host.removal import REMOVALS
from training_host.removal.adversarial import AdversarialTraining
from training_host.removal.adversarial_retrain import AdversarialRetrain
from training_host.removal.averaged import Averaged
from training_host.removal.base import EXTRACTION, MODIFICATION, Stolen, Thief
from training_host.removal.clp import CLP, lipschitz_bounds
from training_host.removal.fst import FST
from training_host.removal.ibau import IBAU
from training_host.removal.jbda import JBDA
from training_host.removal.knockoff import Knockoff
from training_host.removal.rnp import RNP
from training_host.removal.selective import Selective
from training_host.training.augment import to_batch
from training_host.training.device import Device
from training_host.training.evaluate import predict
from training_host.training.loop import Recipe
from training_host.training.perturb import climb, loss_gradient
from training_host.training.supervised import train_classifier

ARCH, SIDE = "smallest", 20


class Smallest(nn.Module):
    """Two convolutions and two dense layers, for pictures of any size: quick enough for second derivatives."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(width, 2 * width, 3), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.AdaptiveAvgPool2d(2)),
        )
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(8 * width, 16), nn.Dropout(0.2), nn.ReLU(), nn.Linear(16, classes)
        )

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(pictures))


def pictures(count: int, seed: int) -> LabelledSet:
    data = coloured_set(count, seed)
    return replace(data, images=np.ascontiguousarray(data.images[:, :SIDE, :SIDE]))


OWNED, FRESH = pictures(192, 1), pictures(100, 2)
BATCH, LABELS = to_batch(torch.from_numpy(FRESH.images[:64]), "cpu"), torch.from_numpy(FRESH.labels[:64])


class Watched(nn.Module):
    """A network that keeps every picture that it is asked, and may change what it says."""

    def __init__(self, net: nn.Module, change=lambda pictures, logits: logits) -> None:
        super().__init__()
        self.net, self.change, self.asked = net, change, []

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        self.asked.extend((pictures * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
        return self.change(pictures, self.net(pictures))


@pytest.fixture(scope="module", autouse=True)
def tiny_network() -> Iterator[None]:
    """Known here only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(WIDTHS, ARCH, 8)
        patch.setitem(build._OTHERS, ARCH, Smallest)
        yield


@pytest.fixture(scope="module")
def teacher(tiny_network: None) -> nn.Module:
    network = train_classifier(ARCH, OWNED, Recipe(20, max_lr=1e-2, seed=1), CPU)
    network.zero_grad(set_to_none=True)
    return network


@pytest.fixture(scope="module")
def honest(tiny_network: None) -> nn.Module:
    return train_classifier(ARCH, OWNED, Recipe(20, max_lr=1e-2, seed=11), CPU)


@pytest.fixture
def thief(teacher: nn.Module, honest: nn.Module) -> Thief:
    return Thief(teacher, ARCH, OWNED, CPU, epochs=20, seed=5, honest=lambda index: honest)


def asked_by(attack, thief: Thief, **changes) -> np.ndarray:
    watched = Watched(thief.network)
    attack.steal(replace(thief, network=watched, **changes))
    return np.stack(watched.asked)


def right(stolen: Stolen) -> float:
    return float((stolen.scores_of(FRESH.images).argmax(1) == FRESH.labels).mean())


EXTRACTIONS = [
    JBDA(seeds=32, most=96, rounds=3, early=1),
    Knockoff(96),
    Averaged(3),
    Selective(),
    Selective("honest", mode="labels"),
    AdversarialRetrain(0.05, steps=1),
    AdversarialRetrain(0.05, steps=1, asks=True),
]
MODIFICATIONS = [
    AdversarialTraining(0.05, steps=2, epochs=1),
    IBAU(rounds=2, steps=3, terms=2, share=0.5),
    IBAU(rounds=1, steps=3, terms=2, share=0.5, portion=0.5),
    FST(epochs=3, share=1.0),
    CLP(1.0),
    RNP(share=0.5, steps=20, lr=0.1, allowed=0.2),
]


@pytest.mark.parametrize("attack", [*EXTRACTIONS, *MODIFICATIONS], ids=repr)
def test_the_same_thief_gets_the_same_and_another_gets_another_and_nothing_else_moves(attack, thief: Thief):
    before, brief = weights(thief.network), replace(thief, epochs=1)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first, again, other = (attack.steal(t) for t in (brief, brief, replace(brief, seed=6)))
    assert torch.equal(torch.rand(2), expected), "torch's global generator moved"
    assert attack.kind == (EXTRACTION if attack in EXTRACTIONS else MODIFICATION)
    assert not first.network.training and first.network is not thief.network and not thief.network.training
    mine, same, theirs = (weights(stolen.network) for stolen in (first, again, other))
    assert all(torch.equal(mine[name], same[name]) for name in mine)
    assert isinstance(attack, CLP) or not all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert all(torch.equal(value, before[name]) for name, value in weights(thief.network).items())
    needs = [p.requires_grad for p in thief.network.parameters()]
    assert [p.requires_grad for p in first.network.parameters()] == needs
    assert all(p.grad is None for p in thief.network.parameters())


@pytest.mark.parametrize(
    "attack",
    [
        JBDA(seeds=64, most=128, rounds=2, early=1),
        Averaged(3),
        Selective(epochs=2),
        Selective("honest", mode="labels", epochs=2),
        AdversarialRetrain(0.05, steps=1),
        AdversarialTraining(0.05, steps=2, epochs=1),
        IBAU(rounds=2, steps=6, terms=2),
        FST(epochs=10, share=1.0, lr=0.05),
    ],
    ids=repr,
)
def test_the_task_is_kept(attack, thief: Thief):
    assert right(attack.steal(thief)) > 0.85


def test_the_attacks_are_registered():
    for attack in (*EXTRACTIONS, *MODIFICATIONS):
        assert type(attack) in REMOVALS.values()


@pytest.mark.parametrize("device", [Device("cpu", bf16=False), Device("cpu", bf16=True)], ids=Device.describe)
def test_low_precision_trains_the_weights_too(device: Device, thief: Thief):
    """Pictures are moved with gradients and oracles asked without, between two steps of the same weights."""
    for attack in (
        AdversarialRetrain(0.05, steps=1, asks=True),
        AdversarialTraining(0.05, steps=1, epochs=1),
        IBAU(rounds=1, steps=2, terms=1),
    ):
        stolen = attack.steal(replace(thief, device=device, epochs=1)).network
        for mine, theirs in zip(stolen.parameters(), thief.network.parameters(), strict=True):
            assert not mine.requires_grad or not torch.equal(mine, theirs)


def test_moved_pictures_stay_near_raise_the_loss_and_move_no_statistics(teacher: nn.Module):
    before = weights(teacher)
    teacher.train()
    moved = climb(teacher, BATCH, LABELS, 0.05, 3, torch.Generator().manual_seed(0))
    assert all(module.training for module in teacher.modules()), "training goes on as before"
    teacher.eval()
    assert all(torch.equal(value, before[name]) for name, value in weights(teacher).items())
    assert (moved - BATCH).abs().max() <= 0.05 + 1e-6 and moved.min() >= 0 and moved.max() <= 1
    with torch.no_grad():
        plain, worse = (nn_functional.cross_entropy(teacher(batch), LABELS) for batch in (BATCH, moved))
    assert worse > 1.2 * plain
    gradient = loss_gradient(teacher, BATCH, torch.eye(4)[LABELS])
    assert torch.allclose(gradient, loss_gradient(teacher, BATCH, LABELS), atol=1e-6)


def test_jbda_asks_seeds_of_its_own_then_as_many_again_moved_by_the_step_up_to_the_most(thief: Thief):
    asked = asked_by(JBDA(seeds=20, most=70, rounds=6, early=1), thief, epochs=1)
    owned = {image.tobytes() for image in OWNED.images}
    assert len(asked) == 70 and [image.tobytes() in owned for image in asked] == [True] * 20 + [False] * 50
    steps = np.abs(asked[20:40].astype(int) - asked[:20].astype(int))
    inside = (asked[:20] > 30) & (asked[:20] < 225)
    assert np.isin(steps[inside], (0, 25, 26)).all() and (steps[inside] > 0).mean() > 0.5
    assert len(asked_by(JBDA(seeds=20, most=None, rounds=2, early=1), thief, epochs=1)) == 80
    assert len(asked_by(JBDA(seeds=20, rounds=0), thief, epochs=1)) == 20


def test_jbda_moves_pictures_towards_their_class_as_the_student_sees_it(teacher: nn.Module):
    from training_host.removal.jbda import _moved

    labels = predict(teacher, FRESH.images, CPU).argmax(1)
    rows, near = np.arange(len(labels)), _moved(teacher, FRESH.images, labels, 0.02, CPU)
    before, after = (predict(teacher, images, CPU)[rows, labels] for images in (FRESH.images, near))
    assert after.mean() > before.mean() and near.dtype == np.uint8


def test_foreign_pictures_are_the_thiefs_only_ones(thief: Thief):
    for shown, count in (("leaves", 30), ("clouds", 30), ("both", 31)):
        asked = asked_by(Knockoff(count, shown), thief, epochs=1)
        assert len({image.tobytes() for image in asked}) == count
    blank = replace(OWNED, images=np.zeros_like(OWNED.images), labels=np.zeros_like(OWNED.labels))
    brief, attack = replace(thief, epochs=1), Knockoff(70)
    mine, theirs = (weights(attack.steal(t).network) for t in (brief, replace(brief, pictures=blank)))
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_task_of_colours_is_learnt_from_foreign_pictures_alone(thief: Thief):
    assert right(Knockoff(200).steal(thief)) > 0.6


def test_dead_leaves_are_many_deterministic_and_cover_the_colours():
    first, again = (dead_leaves(40, 64, np.random.default_rng(0)) for _ in range(2))
    assert first.shape == (40, 64, 64, 3) and first.dtype == np.uint8 and np.array_equal(first, again)
    assert len({image.tobytes() for image in first}) == 40
    assert not np.array_equal(first, dead_leaves(40, 64, np.random.default_rng(1)))
    assert first.std(axis=(1, 2)).mean() > 20, "no picture is plain"
    assert first.min() < 20 and first.max() > 235
    neighbours = np.abs(np.diff(first.astype(int), axis=1)).mean()
    assert neighbours < 0.5 * np.abs(first.astype(int) - first[::-1].astype(int)).mean(), "nor noise"
    assert dead_leaves(0, 48, np.random.default_rng(0)).shape == (0, 48, 48, 3)


def test_every_picture_is_asked_in_several_versions_and_their_mean_is_learnt(thief: Thief):
    owned = {image.tobytes() for image in OWNED.images}
    asked = asked_by(Averaged(4, budget=30), thief, epochs=1)
    assert len(asked) == 120 and sum(image.tobytes() in owned for image in asked) == 30
    generator = np.random.default_rng(0)

    def noisy(pictures: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        return 0.2 * logits + torch.from_numpy(generator.normal(size=logits.shape)).float()

    liar = replace(thief, network=Watched(thief.network, noisy))
    truth = replace(thief, network=Watched(thief.network, lambda pictures, logits: 0.2 * logits)).ask(OWNED.images)
    errors = [np.abs(Averaged(n)._answers(liar, OWNED.images) - truth).mean() for n in (1, 16)]
    assert errors[1] < 0.8 * errors[0]
    votes = Averaged(4, "labels")._answers(liar, OWNED.images)
    assert np.isin(votes, (0, 0.25, 0.5, 0.75, 1)).all() and np.allclose(votes.sum(1), 1)


@pytest.mark.parametrize("judge", ["early", "honest"])
def test_answers_that_nobody_confirms_are_passed_over(judge: str, thief: Thief):
    lies = np.random.default_rng(0).permutation(len(OWNED))[:45]
    hidden = {OWNED.images[row].tobytes() for row in lies}

    def sometimes(pictures: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        images = (pictures * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        lie = torch.tensor([image.tobytes() in hidden for image in images])
        return 2 * torch.where(lie[:, None], logits.roll(2, dims=1), logits)

    attack, kept = Selective(judge, keep=0.7, early=0.7), []

    class Told(Selective):
        def chosen(self, answers, opinion):
            kept.append(super().chosen(answers, opinion))
            return kept[-1]

    told = Told(attack.judge, attack.keep, attack.early)
    told.steal(replace(thief, network=Watched(thief.network, sometimes)))
    assert abs(len(kept[0]) - 134) <= 2 and len(set(kept[0].tolist()) & set(lies.tolist())) <= 5


def test_the_asking_thief_asks_about_every_moved_picture_and_the_other_one_about_none(thief: Thief):
    assert len(asked_by(AdversarialRetrain(asks=False, steps=1), thief, epochs=2)) == 192
    asked = asked_by(AdversarialRetrain(asks=True, steps=1), thief, epochs=2)
    assert len(asked) == 192 + 2 * 192
    assert not {image.tobytes() for image in asked[192:]} & {image.tobytes() for image in OWNED.images}


def resistance(network: nn.Module, eps: float = 0.2) -> float:
    """Share of moved pictures that are still called right."""
    moved = climb(network, BATCH, LABELS, eps, 5, torch.Generator().manual_seed(0))
    return float((network(moved).argmax(1) == LABELS).float().mean())


def test_adversarial_training_makes_a_network_harder_to_fool(thief: Thief):
    hard = AdversarialTraining(0.2, epochs=3, lr=0.02).steal(thief).network
    assert resistance(hard) > resistance(thief.network) + 0.1


def test_the_implicit_hypergradient_is_that_of_a_perturbation_that_answers():
    """A toy with one weight for which everything can be written down: second derivatives, and the fixed point."""

    class Toy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            total = pictures.sum((1, 2, 3))
            return torch.stack([self.weight * torch.sin(total), total * 0], dim=1)

    toy, attack = Toy(), IBAU(terms=3, portion=1.0)
    pictures, labels = torch.full((2, 1, 1, 1), 0.3, dtype=torch.float64), torch.tensor([0, 1])
    noise = torch.full((1, 1, 1, 1), 0.2, dtype=torch.float64)
    (mine,) = torch.autograd.grad(attack.surrogate(toy, pictures, labels, noise), toy.weight)

    def outer(weight: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        logit = weight * torch.sin(0.3 + d)
        return (nn_functional.softplus(-logit) + nn_functional.softplus(logit)) / 2

    def inner(weight: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        return 0.001 * d**2 - outer(weight, d)

    point = (torch.tensor(0.7, dtype=torch.float64), torch.tensor(0.2, dtype=torch.float64))
    (outer_w, outer_d) = torch.autograd.functional.jacobian(outer, point)
    (_, _), (inner_dw, inner_dd) = torch.autograd.functional.hessian(inner, point)
    adjoint = outer_d * sum((1 - 0.1 * inner_dd) ** k for k in range(4))
    assert float(mine) == pytest.approx(float(outer_w - 0.1 * inner_dw * adjoint), rel=1e-6)
    assert abs(float(inner_dw * adjoint)) > 1e-3, "else nothing was tested"


def test_the_worst_perturbation_does_harm_and_is_no_longer_than_allowed(thief: Thief):
    for radius in (0.5, 8.0):
        attack = IBAU(radius=radius)
        noise = attack.worst(thief.network, OWNED, thief, thief.generator())
        assert noise.shape == (1, 3, SIDE, SIDE) and float(noise.norm()) <= radius * 1.001
    random = torch.randn(noise.shape, generator=thief.generator())
    harmless = random * (noise.norm() / random.norm())
    with torch.no_grad():
        losses = [nn_functional.cross_entropy(thief.network(BATCH + d), LABELS) for d in (0, harmless, noise)]
    assert losses[2] > 1.5 * max(losses[:2])


def stamped(data: LabelledSet) -> LabelledSet:
    """A white stamp on every picture, and class 0 for it: a planted backdoor."""
    images = data.images.copy()
    images[:, 2:8, 2:8] = 255
    return replace(data, images=images, labels=np.zeros_like(data.labels))


def test_a_planted_backdoor_goes_with_the_perturbation_and_stays_without(thief: Thief):
    plain, planted = OWNED, stamped(OWNED)
    both = replace(
        plain,
        images=np.concatenate([plain.images, planted.images]),
        labels=np.concatenate([plain.labels, planted.labels]),
        names=plain.names + planted.names,
    )
    victim = train_classifier(ARCH, both, Recipe(20, max_lr=1e-2, seed=1), CPU)

    def obeys(stolen: Stolen) -> float:
        return float((stolen.scores_of(stamped(FRESH).images)[FRESH.labels != 0].argmax(1) == 0).mean())

    attack = IBAU(rounds=1, steps=20, terms=2, share=1.0)
    with_it, without = (a.steal(replace(thief, network=victim)) for a in (attack, replace(attack, radius=1e-9)))
    assert obeys(Stolen.of(victim, CPU)) > 0.9 and obeys(without) > 0.9
    assert obeys(with_it) < 0.2 and right(with_it) > 0.9
    for mine, theirs in zip(norms_of(with_it.network), norms_of(victim), strict=True):
        assert torch.equal(mine.running_mean, theirs.running_mean)


def test_clp_silences_the_loud_channel_and_no_other(thief: Thief):
    network = train_classifier("recycleme-narrow", coloured_set(64, 1), Recipe(1, seed=1), CPU)
    calm = [lipschitz_bounds(filters) for filters in conv_filters(network)]
    with torch.no_grad():
        loud = conv_filters(network)[1].layer.weight
        loud[3] *= 40
    assert lipschitz_bounds(conv_filters(network)[1])[3] == pytest.approx(40 * float(calm[1][3]), rel=1e-4)
    stolen = CLP().steal(replace(thief, network=network)).network
    outputs = [filters.output for filters in conv_filters(stolen)]
    with listening(outputs) as heard, torch.no_grad():
        stolen(torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    silent = [(heard[output].abs().amax((0, 2, 3)) == 0).nonzero().flatten().tolist() for output in outputs]
    assert silent[1] == [3] and not any(3 in part for part in silent[:1])
    assert float(loud[3].detach().abs().max()) > 0, "the stolen network stays as it is"


def test_a_lipschitz_bound_is_never_exceeded_by_a_patch_and_counts_what_the_norm_does():
    conv, norm = nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        conv.weight.normal_()
        norm.weight.uniform_(-2, 2), norm.running_var.uniform_(0.1, 3)
    network = nn.Sequential(conv, norm.eval(), nn.Flatten(), nn.Linear(6, 2))
    bounds = lipschitz_bounds(conv_filters(network)[0])
    scale = (norm.weight.abs() / (norm.running_var + norm.eps).sqrt()).detach()
    largest = torch.stack([torch.linalg.svdvals(w.reshape(4, 9))[0] for w in conv.weight.detach()])
    assert torch.allclose(bounds, largest * scale, rtol=1e-4)


def test_rnp_forgets_the_task_brings_it_back_by_masks_and_prunes_only_as_far_as_allowed(
    thief: Thief, monkeypatch: pytest.MonkeyPatch
):
    attack = RNP(share=1.0, lr=0.1, steps=20, allowed=0.05)
    forgetful = attack.unlearnt(thief, OWNED)
    assert float((predict(forgetful, OWNED.images, CPU).argmax(1) == OWNED.labels).mean()) <= 0.3
    masks = attack.masks(forgetful, OWNED, thief)
    assert [len(mask) for mask in masks] == [8, 16]
    assert all(mask.min() >= 0 and mask.max() <= 1 for mask in masks) and min(mask.min() for mask in masks) < 0.9

    monkeypatch.setattr(RNP, "unlearnt", lambda self, thief, data: forgetful)
    monkeypatch.setattr(RNP, "masks", lambda self, network, data, thief: masks)

    def dropped(allowed: float) -> int:
        network = replace(attack, allowed=allowed).steal(thief).network
        return sum(int((filters.strengths() == 0).sum()) for filters in conv_filters(network))

    assert dropped(1.0) > 0 and dropped(-1.0) == 0 and dropped(1.0) >= dropped(0.05)
    assert right(attack.steal(thief)) > 0.85


def test_fst_keeps_the_new_last_layer_away_from_the_old_one_and_as_long(thief: Thief):
    old, products = last_layer(thief.network).weight.detach(), []
    for alpha in (0.0, 0.5):
        last = last_layer(FST(alpha, epochs=5, share=1.0, lr=0.05).steal(thief).network).weight.detach()
        assert float(last.norm()) == pytest.approx(float(old.norm()), rel=1e-4)
        products.append(float((last * old).sum()))
    assert products[1] < products[0] - 0.1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: JBDA(mode="all"),
        lambda: JBDA(seeds=1),
        lambda: JBDA(seeds=100, most=50),
        lambda: JBDA(step=0.0),
        lambda: JBDA(rounds=-1),
        lambda: Knockoff(1),
        lambda: Knockoff(shown="cats"),
        lambda: Averaged(0),
        lambda: Averaged(budget=1),
        lambda: Selective("nobody"),
        lambda: Selective(keep=0.0),
        lambda: Selective(early=1.5),
        lambda: AdversarialRetrain(eps=0.0),
        lambda: AdversarialRetrain(mode="none"),
        lambda: AdversarialTraining(steps=0),
        lambda: AdversarialTraining(ratio=0.0),
    ],
)
def test_parameters_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValueError):
        wrong()
