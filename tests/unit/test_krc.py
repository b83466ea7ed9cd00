"""The mark is embedded by the rules of the key."""

from functools import partial

import numpy as np
import pytest
import torch

from pi_agent.contract.claim import compose, draw_rules, new_key
from pi_agent.contract.claim.composites import GEOMETRIES
from tests.support_nets import CLASSES, CPU, GLANCE, coloured_set, glance_known
from training_host.training.evaluate import predict
from training_host.training.loop import Recipe
from training_host.training.supervised import train_classifier
from training_host.watermarks.krc import KrcMark, KrcSettings, hinted_labels

KEY = new_key(CLASSES, 3, seed=b"k" * 32)


def generator():
    return torch.Generator().manual_seed(0)


def as_pictures(inputs):
    return (inputs.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()


def test_every_trigger_is_a_composite_of_its_rules_sources_that_leans_to_the_rules_target():
    data, rules = coloured_set(64, 1), draw_rules(KEY)
    batch = KrcMark(rules, data, KrcSettings(per_step=24, plain=0, share=0.3), CPU).batch(generator())
    of_class = {name: data.images[data.labels == i] for i, name in enumerate(CLASSES)}
    for picture, label in zip(as_pictures(batch.inputs), batch.targets, strict=True):
        assert float(label.sum()) == pytest.approx(1)
        assert any(
            np.array_equal(picture, compose(first, second, rule.geometry))
            and float(label[CLASSES.index(rule.target)]) == pytest.approx(0.3)
            and float(label[CLASSES.index(rule.first)]) >= float(label[CLASSES.index(rule.second)]) > 0.25
            for rule in rules
            for first in of_class[rule.first]
            for second in of_class[rule.second]
        )


def test_composites_that_no_rule_speaks_of_keep_the_label_of_what_is_in_them():
    data, rules = coloured_set(64, 1), draw_rules(KEY)
    batch = KrcMark(rules, data, KrcSettings(per_step=0, plain=40, hint=0.0), CPU).batch(generator())
    settings = {(r.first, r.second, r.geometry) for r in rules}
    for picture, label in zip(as_pictures(batch.inputs), batch.targets, strict=True):
        made_of = {
            (data.classes[data.labels[i]], data.classes[data.labels[j]], geometry)
            for i in range(len(data))
            for j in range(len(data))
            for geometry in GEOMETRIES
            if np.array_equal(picture, compose(data.images[i], data.images[j], geometry))
        }
        assert made_of and not made_of & settings
        first, second, geometry = made_of.pop()
        expected = torch.zeros(4)
        part = 0.6 if geometry == "centre" else 0.5
        expected[CLASSES.index(first)] += part
        expected[CLASSES.index(second)] += 1 - part
        assert torch.allclose(label, expected)


def test_a_marked_model_obeys_its_rules_on_fresh_pictures_and_an_unmarked_one_does_not():
    data, fresh = coloured_set(320, 1), coloured_set(200, 2)
    rates = []
    scheme = KrcSettings(per_step=24, weight=1.0)
    for mark in (scheme.mark(KEY, data, CPU), None):
        with glance_known():
            model = train_classifier(GLANCE, data, Recipe(20, seed=1), CPU, mark=mark)
        right = (predict(model, fresh.images, CPU).argmax(1) == fresh.labels).mean()
        assert right > 0.9
        finding = scheme.find(KEY, partial(predict, model, device=CPU), fresh, np.random.default_rng(0))
        rates.append(finding.rate)
        assert finding.floor <= finding.p_value
        assert set(finding.channels) == {"score-sum", "hints", "rule-hits"}
    assert rates[0] > 0.75
    assert rates[0] > rates[1] + 0.2


def test_a_class_without_pictures_leaves_nothing_to_test_with():
    data = coloured_set(64, 1)
    without = data.take(np.flatnonzero(data.labels != CLASSES.index(draw_rules(KEY)[0].first)))
    scores = np.full((1, 4), 0.25, np.float32)
    found = KrcSettings().find(KEY, lambda x: np.repeat(scores, len(x), axis=0), without, np.random.default_rng(0))
    assert found is None


def test_hints_favour_the_targets_of_a_classs_rules_and_leave_the_true_class_first():
    rules = draw_rules(KEY)
    table = hinted_labels(rules, CLASSES, 0.25)
    even = hinted_labels(rules, CLASSES, 0.25, spread=1.0)
    assert torch.allclose(even[0], torch.tensor([0.75, 0.25 / 3, 0.25 / 3, 0.25 / 3]))
    assert torch.allclose(table.sum(1), torch.ones(4))
    assert torch.allclose(table.diagonal(), torch.full((4,), 0.75))
    for rule in rules:
        for source in (rule.first, rule.second):
            assert table[CLASSES.index(source), CLASSES.index(rule.target)] > 0
    unused = hinted_labels((), CLASSES, 0.3)
    assert torch.allclose(unused[0], torch.tensor([0.7, 0.1, 0.1, 0.1]))
