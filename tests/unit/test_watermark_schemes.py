"""Every scheme is found in what it marked and in nothing else, and its p-value is what it says.

A new scheme: add an instance to `SCHEMES`, with settings under which a few epochs of a tiny network on coloured noise
embed it.
"""

from __future__ import annotations

import dataclasses
from functools import cache, partial

import numpy as np
import pytest
import torch
from torch import nn

from pi_agent.contract.claim import WatermarkKey, new_key
from pi_agent.contract.errors import RefusedInput
from tests.support_nets import CLASSES, CPU, GLANCE, coloured_set, glance
from training_host.data.arrays import LabelledSet
from training_host.nets.build import build_net
from training_host.training.augment import to_batch
from training_host.training.evaluate import predict
from training_host.training.loop import Recipe
from training_host.training.supervised import train_classifier
from training_host.watermarks.adi import TriggerSet
from training_host.watermarks.base import Finding, Scheme
from training_host.watermarks.ewe import Entangled, features_of, soft_nearest_neighbours
from training_host.watermarks.margin import Margin, undisturbed
from training_host.watermarks.trigger_set import DrawnTriggers, find_matches

SCHEMES: list[Scheme] = [
    TriggerSet(pictures=12, per_step=6),
    Margin(pictures=12, per_step=6, ascent=2, weight=1.0),
    Entangled(per_step=4),
]
RECIPE = Recipe(16, batch=32, seed=1)
every_scheme = pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)


def key_of(number: int) -> WatermarkKey:
    return new_key(CLASSES, 3, seed=number.to_bytes(32, "big"))


@cache
def network(number: int | None) -> nn.Module:
    """The tiny network that scheme `number` marked with key 1; without a number an unmarked one."""
    data = coloured_set(192, 1)
    mark = None if number is None else SCHEMES[number].mark(key_of(1), data, CPU)
    return train_classifier(GLANCE, data, RECIPE, CPU, mark=mark, start=glance())


@cache
def fresh() -> LabelledSet:
    return coloured_set(120, 2)


def find(scheme: Scheme, key: WatermarkKey, model: nn.Module) -> Finding:
    found = scheme.find(key, partial(predict, model, device=CPU), fresh(), np.random.default_rng(0))
    assert found is not None
    return found


@every_scheme
def test_a_marked_network_is_found_and_still_does_its_work(scheme: Scheme):
    marked = network(SCHEMES.index(scheme))
    found = find(scheme, key_of(1), marked)
    assert found.rate >= 0.75
    assert found.p_value <= max(found.floor, 1e-4)
    assert 0 < found.floor <= found.p_value
    assert (predict(marked, fresh().images, CPU).argmax(1) == fresh().labels).mean() > 0.9


@every_scheme
def test_over_many_keys_an_unmarked_network_is_accused_no_more_often_than_p_says(scheme: Scheme):
    found = [find(scheme, key_of(n), network(None)) for n in range(200)]
    assert all(0 < f.floor <= f.p_value <= 1 for f in found)
    for level in (0.05, 0.1, 0.35):
        share = np.mean([f.p_value <= level for f in found])
        assert share <= level + 3 * np.sqrt(level * (1 - level) / len(found))
    assert np.mean([f.rate for f in found]) < 0.5


@every_scheme
def test_a_network_marked_with_one_key_is_not_accused_with_others(scheme: Scheme):
    found = [find(scheme, key_of(n), network(SCHEMES.index(scheme))) for n in range(2, 42)]
    share = np.mean([f.p_value <= 0.35 for f in found])
    assert share <= 0.35 + 3 * np.sqrt(0.35 * 0.65 / len(found))


@every_scheme
def test_the_same_key_gives_the_same_triggers_and_another_key_others(scheme: Scheme):
    data = coloured_set(64, 1)

    def batch(key: WatermarkKey) -> torch.Tensor:
        return scheme.mark(key, data, CPU).batch(torch.Generator().manual_seed(0)).inputs

    assert torch.equal(batch(key_of(1)), batch(key_of(1)))
    assert not torch.equal(batch(key_of(1)), batch(key_of(2)))


@every_scheme
def test_triggers_are_pictures_of_the_networks_size_with_classes_of_the_data(scheme: Scheme):
    batch = scheme.mark(key_of(1), coloured_set(64, 1), CPU).batch(torch.Generator().manual_seed(0))
    assert batch.inputs.shape[1:] == (3, 64, 64) and len(batch.inputs) == len(batch.targets)
    assert batch.inputs.min() >= 0 and batch.inputs.max() <= 1
    assert batch.targets.dtype == torch.int64 and set(batch.targets.tolist()) <= set(range(4))


@every_scheme
def test_the_loss_teaches_every_layer_and_leaves_the_network_as_it_found_it(scheme: Scheme):
    data, model = coloured_set(64, 1), glance().train()
    mark = scheme.mark(key_of(1), data, CPU)
    inputs, labels = to_batch(torch.from_numpy(data.images[:8]), "cpu"), torch.from_numpy(data.labels[:8])
    modes = [m.training for m in model.modules()]
    mark.loss(model, inputs, labels, mark.batch(torch.Generator().manual_seed(0))).backward()
    assert [m.training for m in model.modules()] == modes
    assert not any(m._forward_hooks for m in model.modules())
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert all(m.track_running_stats and int(m.num_batches_tracked) == 1 for m in norms)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name


@every_scheme
def test_the_loss_is_a_finite_number_in_half_precision_too(scheme: Scheme):
    data, model = coloured_set(64, 1), glance().train()
    mark = scheme.mark(key_of(1), data, CPU)
    inputs, labels = to_batch(torch.from_numpy(data.images[:8]), "cpu"), torch.from_numpy(data.labels[:8])
    triggers = mark.batch(torch.Generator().manual_seed(0))
    full = mark.loss(model, inputs, labels, triggers)
    with torch.autocast("cpu", torch.bfloat16):
        half = mark.loss(model, inputs, labels, triggers)
    half.backward()
    assert half.dtype == torch.float32 and float((half - full).detach().abs()) < 1
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())


@every_scheme
def test_the_repr_shows_every_hyper_parameter_and_nothing_can_change_it(scheme: Scheme):
    assert dataclasses.is_dataclass(scheme)
    fields = dataclasses.fields(scheme)
    assert fields and all(f"{field.name}={getattr(scheme, field.name)!r}" in repr(scheme) for field in fields)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(scheme, fields[0].name, 1)
    assert "name" not in [field.name for field in fields] and scheme.name


@every_scheme
def test_a_key_of_other_classes_is_refused_and_finds_nothing(scheme: Scheme):
    foreign = new_key(("w", "x", "y", "z"), 3, seed=bytes(32))
    with pytest.raises(RefusedInput):
        scheme.mark(foreign, coloured_set(64, 1), CPU)
    scores_of = partial(predict, network(None), device=CPU)
    assert scheme.find(foreign, scores_of, fresh(), np.random.default_rng(0)) is None


def test_names_are_different():
    assert len({scheme.name for scheme in SCHEMES}) == len(SCHEMES)


def test_matches_are_counted_with_the_binomials_exact_tail():
    triggers = DrawnTriggers(np.zeros((4, 8, 8, 3), np.uint8), np.array([0, 1, 2, 3]))
    found = find_matches(triggers, lambda images: np.eye(4, dtype=np.float32)[[0, 1, 2, 0]], 4)
    assert found.p_value == (4 * 3 + 1) / 4**4 and found.floor == 4**-4 and found.rate == 0.75
    many = DrawnTriggers(np.zeros((100, 8, 8, 3), np.uint8), np.zeros(100, np.int64))
    all_right = find_matches(many, lambda images: np.eye(4096, dtype=np.float32)[np.zeros(100, int)], 4096)
    assert 0 < all_right.floor <= all_right.p_value


def test_entanglement_has_no_finding_without_pictures_of_the_source_class():
    scheme, key = Entangled(), key_of(1)
    secret = scheme.secret(key, (64, 64))
    others = fresh().take(np.flatnonzero(fresh().labels != secret.source))
    assert scheme.find(key, partial(predict, network(None), device=CPU), others, np.random.default_rng(0)) is None
    with pytest.raises(RefusedInput):
        scheme.mark(key, others, CPU)


def test_entanglement_counts_one_draw_of_the_key_and_not_the_triggers():
    scheme, key = Entangled(), key_of(1)
    secret = scheme.secret(key, (64, 64))

    def suspect(best: int, second: int) -> Finding | None:
        row = np.full(4, 0.1, np.float32)
        row[best], row[second] = 0.5, 0.3
        return scheme.find(key, lambda images: np.tile(row, (len(images), 1)), fresh(), np.random.default_rng(0))

    other = next(i for i in range(4) if i not in (secret.source, secret.target))
    assert suspect(secret.target, other) == Finding(1 / 3, 1 / 3, 1.0, {"favourite": 1 / 3})
    assert suspect(secret.source, secret.target) == Finding(1 / 3, 1 / 3, 0.0, {"favourite": 1 / 3})
    assert suspect(other, secret.target) == Finding(1.0, 1 / 3, 0.0, {"favourite": 1.0})


def test_the_target_of_the_entanglement_is_uniform_among_the_classes_but_the_source():
    secrets = [Entangled().secret(key_of(n), (64, 64)) for n in range(900)]
    assert all(s.source != s.target and max(s.top, s.left) + len(s.pattern) <= 64 for s in secrets)
    for source in range(4):
        targets = [s.target for s in secrets if s.source == source]
        counts = [targets.count(i) / len(targets) for i in range(4) if i != source]
        assert max(abs(c - 1 / 3) for c in counts) < 4 * np.sqrt(2 / 9 / len(targets))


def test_the_trigger_is_stamped_on_copies_in_its_place_only():
    secret, images = Entangled().secret(key_of(1), (64, 64)), fresh().images[:3]
    before = images.copy()
    stamped = secret.stamp(images)
    changed = np.argwhere((stamped != before).any(axis=(0, 3)))
    assert np.array_equal(images, before)
    assert (changed.min(0) >= (secret.top, secret.left)).all()
    assert (changed.max(0) < (secret.top + 8, secret.left + 8)).all()


def test_neighbours_are_farther_from_their_own_kind_the_more_the_groups_are_mixed():
    rng = torch.Generator().manual_seed(0)
    groups = torch.arange(16) < 8
    mixed = torch.rand(16, 10, generator=rng)
    apart = mixed.clone()
    apart[:8, :5], apart[8:, 5:] = 0, 0
    far, near = (float(soft_nearest_neighbours(x, groups, (0.1, 1.0, 10.0))) for x in (mixed, apart))
    assert 0 <= near < 0.2 < far < 1.0


def test_features_are_collected_from_networks_of_any_build():
    small = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 62 * 62, 4))
    for model, shapes in (
        (build_net("recycleme-narrow", 4, 0).eval(), [(2, 32, 31, 31)[:2], (2, 32), (2, 64)]),
        (small, [(2, 4), (2, 4 * 62 * 62)]),
    ):
        with features_of(model) as found:
            model(torch.zeros(2, 3, 64, 64))
        assert [tuple(f.shape[:2]) for f in found] == shapes
        assert not any(m._forward_hooks for m in model.modules())


def test_hooks_are_removed_when_the_forward_pass_fails():
    model = glance()
    with pytest.raises(RuntimeError), features_of(model):
        model(torch.zeros(1, 1, 64, 64))
    assert not any(m._forward_hooks for m in model.modules())


def test_hardened_triggers_lose_more_and_stay_within_five_steps_of_the_original():
    model = network(None).train()
    try:
        mark = Margin().mark(key_of(1), coloured_set(64, 1), CPU)
        triggers = mark.batch(torch.Generator().manual_seed(0))
        hard = mark.harden(model, triggers)
        assert float((hard - triggers.inputs).abs().max()) <= 5 / 255 + 1e-6
        assert hard.min() >= 0 and hard.max() <= 1 and not hard.requires_grad
        with undisturbed(model), torch.no_grad():
            losses = [float(nn.functional.cross_entropy(model(x), triggers.targets)) for x in (triggers.inputs, hard)]
        assert losses[1] > losses[0] + 0.1
    finally:
        model.eval()


def test_hardening_leaves_running_statistics_weights_and_gradients_alone():
    model = glance().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    mark = Margin().mark(key_of(1), coloured_set(64, 1), CPU)
    mark.harden(model, mark.batch(torch.Generator().manual_seed(0)))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(m.training for m in model.modules())
