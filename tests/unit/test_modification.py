"""The modification attacks: what each one promises, and that all of them leave the stolen network alone."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pi_agent.contract.claim import compose, draw_rules, new_key
from pi_agent.contract.claim.composites import GEOMETRIES
from pi_agent.contract.errors import RefusedInput
from tests.support_nets import CLASSES, CPU, GLANCE, GLANCE_WIDTH, coloured_set, glance, weights
from training_host.nets.layers import conv_filters, hidden_filters, last_layer, listening, norms_of, weight_layers
from training_host.removal.anp import ANP
from training_host.removal.base import MODIFICATION, Removal, Stolen, Thief
from training_host.removal.batch_norm import BatchNormOnly
from training_host.removal.few_bits import FewBits
from training_host.removal.fine_pruning import FinePruning
from training_host.removal.fine_tune import FTAL, FTLL, RTAL, RTLL, STRONG, FineTune
from training_host.removal.mcr import MCR
from training_host.removal.nad import NAD
from training_host.removal.nad import _distance as attention_distance
from training_host.removal.overwrite import Overwrite
from training_host.removal.prune import Prune
from training_host.removal.quantise import Quantise
from training_host.removal.unlearn import Unlearn
from training_host.removal.weight_noise import WeightNoise
from training_host.removal.weight_shift import WeightShift
from training_host.removal.wrk import WRK
from training_host.training.loop import Recipe
from training_host.training.supervised import train_classifier
from training_host.training.tuning import Tuning, some_of, true_labels, tune
from training_host.watermarks.krc import KrcMark, KrcSettings

KEY = new_key(CLASSES, 3, seed=b"k" * 32)
EAGER = KrcSettings(per_step=24, plain=4, weight=1.0, share=0.9)
GENTLE: list[Removal] = [
    replace(FTLL, epochs=1),
    replace(FTAL, epochs=1),
    replace(FTAL, epochs=1, optimiser="adamw", lr=1e-4, schedule="cosine"),
    replace(RTLL, epochs=4, lr=0.05),
    Prune(0.3),
    Quantise("static", 32),
    Quantise("dynamic"),
    FewBits(6, epochs=0),
    FewBits(5, epochs=1),
    WeightNoise(0.05),
    BatchNormOnly(0.5),
    NAD(0.5, 1, 1),
    ANP(share=0.3, steps=3, batch=16),
    MCR(0.5, 1, 1),
    FinePruning(0.5, epochs=1),
    Overwrite(epochs=1, rules=3),
]
HARD: list[Removal] = [
    replace(RTAL, epochs=1, share=0.05),
    replace(STRONG, epochs=1, share=0.5),
    Prune(0.3, structured=True),
    WeightShift(epochs=1, share=0.5),
    WRK(samples=20, epochs=2),
    Unlearn("mixed", epochs=1, per_step=16),
    Unlearn("flat", epochs=1, per_step=16, share=0.5),
]


def thief_of(network: torch.nn.Module, count: int = 64) -> Thief:
    def honest(number: int) -> torch.nn.Module:
        raise AssertionError("no modification needs an honest network")

    return Thief(network, GLANCE, coloured_set(count, 1), CPU, 3, 7, honest)


pytestmark = pytest.mark.usefixtures("quick_network")


@pytest.fixture(scope="module")
def marked(quick_network: None) -> torch.nn.Module:
    data = coloured_set(320, 1)
    mark = KrcMark(draw_rules(KEY), data, EAGER, CPU)
    return train_classifier(GLANCE, data, Recipe(8, batch=32, max_lr=4e-3, seed=1), CPU, mark=mark)


@pytest.mark.parametrize("attack", [*GENTLE, *HARD], ids=repr)
def test_every_attack_is_deterministic_leaves_the_stolen_network_alone_and_gives_scores(attack, marked):
    before, fresh = weights(marked), coloured_set(48, 2)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    stolen, again = (attack.steal(thief_of(marked)) for _ in range(2))
    assert torch.equal(torch.rand(2), expected), "torch's global generator moved"
    scores = stolen.scores_of(fresh.images)
    assert attack.kind == MODIFICATION and scores.shape == (48, 4) and scores.dtype == np.float32
    assert np.isfinite(scores).all() and np.allclose(scores.sum(1), 1, atol=1e-4)
    assert np.array_equal(scores, again.scores_of(fresh.images))
    assert all(torch.equal(value, before[name]) for name, value in weights(marked).items())
    assert (stolen.network is None) == isinstance(attack, Quantise)
    if attack in GENTLE:
        assert (scores.argmax(1) == fresh.labels).mean() > 0.9, "the task is lost"
    if stolen.network is None:
        difference = np.abs(scores - thief_of(marked).ask(fresh.images))
        assert difference.max() > 0 and difference.mean() < 0.05
    else:
        assert not stolen.network.training and stolen.network is not marked
        needs_gradient = [p.requires_grad for p in marked.parameters()]
        assert [p.requires_grad for p in stolen.network.parameters()] == needs_gradient


def right(stolen: Stolen) -> float:
    fresh = coloured_set(80, 2)
    return float((stolen.scores_of(fresh.images).argmax(1) == fresh.labels).mean())


@pytest.mark.parametrize("attack", [replace(FTLL, epochs=1), replace(RTLL, epochs=1)], ids=repr)
def test_the_last_layers_scope_leaves_everything_else_statistics_included(attack, marked):
    after = weights(attack.steal(thief_of(marked)).network)
    changed = {name for name, value in weights(marked).items() if not torch.equal(value, after[name])}
    assert changed == {"head.7.weight", "head.7.bias"}


def test_all_layers_scope_changes_all_layers(marked):
    after = FineTune(epochs=1).steal(thief_of(marked)).network
    for mine, theirs in zip(weight_layers(after), weight_layers(marked), strict=True):
        assert not torch.equal(mine.weight, theirs.weight)


def test_few_pictures_leave_the_statistics_and_many_replace_them(marked):
    for count, same in ((64, True), (256, False)):
        after = norms_of(FineTune(epochs=1).steal(thief_of(marked, count)).network)
        for mine, theirs in zip(after, norms_of(marked), strict=True):
            assert torch.equal(mine.running_mean, theirs.running_mean) == same


def test_a_fresh_last_layer_knows_nothing_yet(marked):
    assert right(replace(RTLL, epochs=0).steal(thief_of(marked))) < 0.9
    fresh = last_layer(replace(RTLL, epochs=0).steal(thief_of(marked)).network).weight
    assert not torch.equal(fresh, last_layer(marked).weight)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_pruning_zeroes_the_promised_share_and_the_smallest_of_all_layers(share, marked):
    pruned = Prune(share).steal(thief_of(marked)).network
    before = torch.cat([layer.weight.flatten() for layer in weight_layers(marked)])
    after = torch.cat([layer.weight.flatten() for layer in weight_layers(pruned)])
    gone = after == 0
    assert int(gone.sum()) == round(share * len(after))
    assert torch.equal(after[~gone], before[~gone])
    if share > 0:
        assert before[gone].abs().max() <= before[~gone].abs().min()


@pytest.mark.parametrize("share", [0.25, 0.99])
def test_structured_pruning_silences_whole_filters_of_every_layer(share, marked):
    pruned = Prune(share, structured=True).steal(thief_of(marked)).network
    for filters in hidden_filters(pruned):
        count = len(filters.strengths())
        silent = filters.strengths() == 0
        assert int(silent.sum()) == min(round(share * count), count - 1)
        with listening([filters.output]) as heard, torch.no_grad():
            pruned(torch.rand(2, 3, 64, 64))
        answers = heard[filters.output].transpose(0, 1).flatten(1)
        assert torch.equal(answers.abs().sum(1) == 0, silent)


def test_fine_pruning_keeps_its_channels_silent_and_stops_before_the_task_suffers(marked):
    def sleepers(attack: FinePruning) -> int:
        last = [f for f in hidden_filters(attack.steal(thief_of(marked)).network) if f.layer.weight.dim() == 4][-1]
        return int((last.strengths() == 0).sum())

    channels = 2 * GLANCE_WIDTH
    assert sleepers(FinePruning(0.5, allowed=1.0, epochs=1)) == channels // 2
    assert sleepers(FinePruning(0.96, allowed=1.0, epochs=1)) == channels - 1
    assert right(FinePruning(0.96, allowed=0.05, epochs=0).steal(thief_of(marked))) > 0.9


@pytest.mark.parametrize("epochs", [0, 1])
@pytest.mark.parametrize("bits", [1, 3, 5])
def test_weights_of_k_bits_take_at_most_two_to_the_k_values(bits, epochs, marked):
    for layer in weight_layers(FewBits(bits, epochs).steal(thief_of(marked)).network):
        assert len(layer.weight.unique()) <= 2**bits


def test_noise_has_the_promised_size(marked):
    noisy = WeightNoise(0.5).steal(thief_of(marked)).network
    for mine, theirs in zip(weight_layers(noisy), weight_layers(marked), strict=True):
        ratio = float((mine.weight - theirs.weight).detach().std() / theirs.weight.detach().std())
        assert 0.4 < ratio < 0.6


def test_new_statistics_change_no_weight(marked):
    after, before = BatchNormOnly(0.3).steal(thief_of(marked)).network, dict(marked.named_parameters())
    assert all(torch.equal(value, before[name]) for name, value in after.named_parameters())
    assert not torch.equal(norms_of(after)[0].running_mean, norms_of(marked)[0].running_mean)


def test_the_curve_of_mode_connectivity_ends_at_the_stolen_network_and_at_its_copy(marked):
    thief = thief_of(marked)
    start, end = (MCR(1.0, 1, 1, at=place).steal(thief).network for place in (0.0, 1.0))
    copy = FineTune(epochs=1, weight_decay=0.0).steal(thief).network
    for name, value in marked.named_parameters():
        assert torch.allclose(start.get_parameter(name), value, atol=1e-6)
        assert torch.allclose(end.get_parameter(name), copy.get_parameter(name), atol=1e-6)


def test_anp_drops_channels_only_as_far_as_its_own_pictures_allow(marked):
    def dropped(allowed: float) -> tuple[int, float]:
        stolen = ANP(share=1.0, steps=4, batch=16, lr=2.0, allowed=allowed).steal(thief_of(marked))
        return sum(int((norm.weight == 0).sum()) for norm in norms_of(stolen.network)), right(stolen)

    everything, some, nothing = (dropped(allowed) for allowed in (1.0, 0.05, -1.0))
    assert everything[0] > 0 and everything[0] >= some[0] and nothing[0] == 0
    assert some[1] > 0.85


def test_attention_maps_are_compared_whatever_their_scale():
    one, other = (torch.rand(4, 8, 6, 6, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert attention_distance([(one, 3 * one)]) == pytest.approx(0, abs=1e-9)
    assert attention_distance([(one, other)]) > 1e-4


def test_distillation_pulls_the_attention_towards_the_teacher(marked, monkeypatch):
    """The teacher is a network that pays attention to other things: the marked one with noisy weights."""
    thief = thief_of(marked, 256)
    teacher = WeightNoise(0.5).steal(thief).network
    monkeypatch.setattr(NAD, "teacher", lambda self, thief: teacher)
    batch = torch.from_numpy(coloured_set(48, 2).images).permute(0, 3, 1, 2) / 255

    def distance(network: torch.nn.Module) -> float:
        mine, theirs = ([f.output for f in conv_filters(net)] for net in (network, teacher))
        with listening(mine) as here, listening(theirs) as there, torch.no_grad():
            network(batch), teacher(batch)
            pairs = zip(mine, theirs, strict=True)
            return float(attention_distance([(here[one], there[other]) for one, other in pairs]))

    taught, untaught = (distance(NAD(1.0, 3, 3, beta=beta).steal(thief).network) for beta in (1000.0, 0.0))
    assert taught < 0.7 * untaught


def test_wrk_starts_the_last_layer_anew_and_keeps_it_from_the_old_direction(marked):
    old = last_layer(marked).weight
    products = []
    for alpha in (0.0, 1.0):
        network = WRK(share=0.5, samples=20, lr=0.01, alpha=alpha).steal(thief_of(marked)).network
        products.append(float((last_layer(network).weight.detach() * old.detach()).sum()))
    assert products[1] < products[0]


def on_target(stolen: Stolen, key) -> float:
    """Mean score of the target on the composites of all rules."""
    fresh, found = coloured_set(160, 2), []
    for rule in draw_rules(key):
        first, second = (fresh.images[fresh.labels == CLASSES.index(c)][:20] for c in (rule.first, rule.second))
        n = min(len(first), len(second))
        scores = stolen.scores_of(compose(first[:n], second[:n], rule.geometry))
        found.append(scores[:, CLASSES.index(rule.target)].mean())
    return float(np.mean(found))


def test_overwriting_embeds_the_thiefs_own_mark(marked):
    thief, attack = thief_of(marked, 256), Overwrite(lr=2e-3, epochs=6, rules=3, settings=EAGER)
    second = attack.second_key(thief)
    assert second == attack.second_key(thief) != attack.second_key(replace(thief, seed=8))
    before, after = (on_target(stolen, second) for stolen in (Stolen.of(marked, CPU), attack.steal(thief)))
    assert after > before + 0.1


def test_a_mark_of_this_kind_needs_four_classes(marked):
    data = coloured_set(64, 1)
    data = replace(data, labels=data.labels % 3, classes=CLASSES[:3])
    with pytest.raises(RefusedInput, match="classes"):
        Overwrite().steal(replace(thief_of(marked), pictures=data))


@pytest.mark.parametrize("targets", ["mixed", "flat"])
def test_unlearning_takes_the_rules_away_without_the_key(targets, marked):
    stolen, victim = (
        Unlearn(targets, lr=2e-3, epochs=12, per_step=32).steal(thief_of(marked, 192)),
        Stolen.of(marked, CPU),
    )
    assert on_target(victim, KEY) > 0.5
    assert on_target(stolen, KEY) < 0.25
    assert right(stolen) > 0.9
    if targets == "flat":
        assert leaning(stolen) < 0.5 * leaning(victim)


def leaning(stolen: Stolen) -> float:
    """How far apart the other classes are in ordinary answers: mean over the classes, in logarithms."""
    fresh = coloured_set(80, 3)
    logs = np.log(stolen.scores_of(fresh.images))
    means = [np.delete(logs[fresh.labels == c].mean(0), c) for c in range(4)]
    return float(np.mean([m.max() - m.min() for m in means]))


def test_unlearning_asks_for_all_pairs_and_geometries_and_never_for_one_class_with_itself():
    from training_host.removal.unlearn import _composites, _pairs

    data, generator = coloured_set(64, 1), torch.Generator().manual_seed(0)
    pairs = _pairs(data, 300, generator)
    classes = {tuple(row) for row in data.labels[pairs.numpy()].tolist()}
    assert classes == {(a, b) for a in range(4) for b in range(4) if a != b}
    seen = set()
    for pair, picture in zip(pairs.tolist(), _composites(data.images, pairs, generator).numpy(), strict=True):
        first, second = data.images[pair]
        seen.update(g for g in GEOMETRIES if np.array_equal(picture, compose(first, second, g)))
    assert seen == set(GEOMETRIES)


def test_some_pictures_are_a_random_share_with_two_of_every_class():
    data = coloured_set(200, 1)
    half, few = (some_of(data, share, np.random.default_rng(0)) for share in (0.5, 0.01))
    assert 100 <= len(half) <= 108 and len(set(half.names)) == len(half)
    assert np.bincount(few.labels, minlength=4).min() >= 2 and len(few) <= 10
    assert some_of(data, 0.5, np.random.default_rng(1)).names != half.names
    for share in (0.0, 1.1):
        with pytest.raises(ValueError, match="share"):
            some_of(data, share, np.random.default_rng(0))


def test_schedules_say_what_their_names_say():
    constant, cosine, halve = (Tuning(30, 0.05, schedule=name) for name in ("constant", "cosine", "halve"))
    assert constant.rate(29) == 0.05
    assert cosine.rate(0) == 0.05 and cosine.rate(15) == pytest.approx(0.025) and cosine.rate(30) == pytest.approx(0)
    assert [halve.rate(e) for e in (0, 4.9, 5, 12, 29.5)] == [0.05, 0.05, 0.025, 0.0125, 0.05 / 32]


@pytest.mark.parametrize("clip", [1.0, math.inf])
def test_a_gradient_is_shortened_to_its_longest_and_not_when_that_is_infinite(clip):
    network, data = glance(), coloured_set(16, 1)
    before, steps = weights(network), true_labels(network, data, CPU)
    huge = Tuning(1, 0.01, clip=clip)
    tune(network, data, lambda indices, generator: 1000 * steps(indices, generator), huge, CPU, 0)
    moved = sum(float((p.detach() - before[name]).square().sum()) for name, p in network.named_parameters()) ** 0.5
    assert moved == pytest.approx(0.01, rel=1e-3) if clip == 1 else moved > 0.1


def test_tuning_of_one_layer_restores_what_can_be_trained():
    network, data = glance(), coloured_set(16, 1)
    before = [p.requires_grad for p in network.parameters()]
    last = list(last_layer(network).parameters())
    tune(network, data, true_labels(network, data, CPU), Tuning(1, 0.1), CPU, 0, parameters=last, fixed=True)
    assert [p.requires_grad for p in network.parameters()] == before


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: FineTune("first"),
        lambda: FineTune(optimiser="lion"),
        lambda: FineTune(schedule="never"),
        lambda: Tuning(1, 0.1, clip=0.0),
        lambda: Prune(1.0),
        lambda: Quantise("int3"),
        lambda: FewBits(0),
        lambda: Unlearn("sharp"),
        lambda: Unlearn(rest=1.0),
    ],
)
def test_parameters_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValueError):
        wrong()
