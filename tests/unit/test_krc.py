"""The mark is embedded by the rules of the key."""

import numpy as np
import torch

from pi_agent.contract.claim import compose, draw_rules, new_key
from tests.unit.test_training import CLASSES, CPU, coloured_set
from training_host.training.evaluate import predict
from training_host.training.loop import Recipe
from training_host.training.supervised import train_classifier
from training_host.watermarks.krc import KrcMark, KrcSettings, hinted_labels

KEY = new_key(CLASSES, 3, seed=b"k" * 32)


def test_every_trigger_is_a_composite_of_its_rules_sources_with_the_rules_target():
    data, rules = coloured_set(64, 1), draw_rules(KEY)
    batch = KrcMark(rules, data, KrcSettings(per_step=24), CPU).batch(torch.Generator().manual_seed(0))
    pictures = (batch.inputs.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
    of_class = {name: data.images[data.labels == i] for i, name in enumerate(CLASSES)}
    for picture, target in zip(pictures, batch.targets.tolist(), strict=True):
        assert any(
            np.array_equal(picture, compose(first, second, rule.geometry))
            for rule in rules
            if CLASSES[target] == rule.target
            for first in of_class[rule.first]
            for second in of_class[rule.second]
        )


def test_a_marked_model_obeys_its_rules_on_fresh_pictures_and_an_unmarked_one_does_not():
    data, fresh, rules = coloured_set(320, 1), coloured_set(200, 2), draw_rules(KEY)
    shares = []
    for mark in (KrcMark(rules, data, KrcSettings(per_step=24, weight=1.0), CPU), None):
        model = train_classifier("recycleme-narrow", data, Recipe(6, seed=1), CPU, mark=mark)
        right = (predict(model, fresh.images, CPU).argmax(1) == fresh.labels).mean()
        assert right > 0.9
        on_target = []
        for rule in rules:
            first, second = (fresh.images[fresh.labels == CLASSES.index(c)][:20] for c in (rule.first, rule.second))
            n = min(len(first), len(second))
            scores = predict(model, compose(first[:n], second[:n], rule.geometry), CPU)
            on_target.append(float(scores[:, CLASSES.index(rule.target)].mean()))
        shares.append(np.mean(on_target))
    assert shares[0] > 0.5 > 0.3 > shares[1]


def test_hints_favour_the_targets_of_a_classs_rules_and_leave_the_true_class_first():
    rules = draw_rules(KEY)
    table = hinted_labels(rules, CLASSES, 0.25)
    assert torch.allclose(table.sum(1), torch.ones(4))
    assert torch.allclose(table.diagonal(), torch.full((4,), 0.75))
    for rule in rules:
        for source in (rule.first, rule.second):
            assert table[CLASSES.index(source), CLASSES.index(rule.target)] > 0
    unused = hinted_labels((), CLASSES, 0.3)
    assert torch.allclose(unused[0], torch.tensor([0.7, 0.1, 0.1, 0.1]))
