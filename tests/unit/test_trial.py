"""Own networks are heard where answers that nobody learnt from say so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from tests.support_nets import CLASSES, CPU, GLANCE, coloured_set, weights
from training_host.data.arrays import ScoredSet
from training_host.own_networks import Own
from training_host.training.evaluate import predict
from training_host.training.loop import EpochReport, Recipe
from training_host.training.supervised import train_classifier
from training_host.training.trial import LEAST, Trial, trial_epochs, try_own

ASKED = coloured_set(LEAST + 20, 3).images
SHORT = Recipe(4, batch=20, seed=5)


pytestmark = pytest.mark.usefixtures("quick_network")


@pytest.fixture(scope="module")
def alike(own: list[nn.Module]) -> ScoredSet:
    """Answers of a victim that is made as the own networks are."""
    victim = train_classifier(GLANCE, coloured_set(120, 2), Recipe(6, batch=20, seed=3), CPU)
    return ScoredSet(ASKED, predict(victim, ASKED, CPU), CLASSES)


@pytest.fixture(scope="module")
def unlike(alike: ScoredSet) -> ScoredSet:
    """Answers that say the same of every picture: a student learns that, own networks know better."""
    same = np.full_like(alike.scores, 0.1 / (len(CLASSES) - 1))
    same[:, 0] = 0.9
    return replace(alike, scores=same)


def test_networks_like_the_victim_are_heard_and_others_are_not(
    own: list[nn.Module], alike: ScoredSet, unlike: ScoredSet
):
    good = try_own(GLANCE, alike, own, replace(SHORT, epochs=1), CPU)
    assert good.heard and good.own < good.alone and good.aside == len(ASKED) // 5
    labels = try_own(GLANCE, unlike.labels_only(), own, replace(SHORT, epochs=15), CPU)
    assert not labels.heard and labels.own > 2 * labels.alone, "labels correct nothing, and these tell of no picture"


def test_what_is_set_aside_was_not_learnt(own: list[nn.Module], alike: ScoredSet, monkeypatch: pytest.MonkeyPatch):
    from training_host.training import trial

    seen: list[ScoredSet] = []
    learn, correct = trial.distill, trial.committee
    monkeypatch.setattr(trial, "distill", lambda arch, data, *a, **k: seen.append(data) or learn(arch, data, *a, **k))
    monkeypatch.setattr(trial, "committee", lambda own, data, device: seen.append(data) or correct(own, data, device))
    numbered = replace(alike, sha256=tuple(map(str, range(len(ASKED)))), weights=np.ones(len(ASKED), np.float32))
    found = try_own(GLANCE, numbered, own, replace(SHORT, epochs=1), CPU)
    for data in seen:
        assert len(data.images) == len(data.scores) == len(set(data.sha256)) == len(ASKED) - found.aside
        rows = np.array(data.sha256, dtype=int)
        assert (numbered.images[rows] == data.images).all() and (numbered.scores[rows] == data.scores).all()
        assert data.weights is not None and len(data.weights) == len(rows)
    assert len(seen) == 2 and seen[0].sha256 == seen[1].sha256


def test_the_same_answers_give_the_same_and_networks_stay_as_they_are(own: list[nn.Module], alike: ScoredSet):
    before = [{name: value.clone() for name, value in weights(network).items()} for network in own]
    first, second = (try_own(GLANCE, alike, own, replace(SHORT, epochs=1), CPU) for _ in range(2))
    assert first == second
    for network, was in zip(own, before, strict=True):
        assert all((value == was[name]).all() for name, value in weights(network).items())


def test_an_interrupted_run_does_not_try_again(own: list[nn.Module], alike: ScoredSet, tmp_path: Path):
    reports: list[EpochReport] = []
    place = tmp_path / "checkpoint.pt"

    def trial(answers: ScoredSet) -> Trial:
        return try_own(GLANCE, answers, own, SHORT, CPU, checkpoint=place, progress=reports.append)

    def stop(report: EpochReport) -> None:
        if report.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        try_own(GLANCE, alike, own, SHORT, CPU, checkpoint=place, progress=stop)
    first = trial(alike)
    assert [r.epoch for r in reports] == [3, 4] and first == try_own(GLANCE, alike, own, SHORT, CPU)
    assert trial(alike) == first and len(reports) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-trial.pt"], "the distillation's own files remove it"
    assert trial(replace(alike, scores=alike.scores[::-1].copy())) != first and len(reports) == 2 + SHORT.epochs


def test_few_answers_are_no_trial(own: list[nn.Module], alike: ScoredSet):
    with pytest.raises(ValueError, match=str(LEAST)):
        try_own(GLANCE, alike.take(np.arange(LEAST - 1)), own, SHORT, CPU)
    assert trial_epochs(500) == 334 and trial_epochs(10_000) == 16 and trial_epochs(LEAST) == 2000


def test_who_is_left_out_is_neither_heard_nor_named(own: list[nn.Module]):
    networks = Own(own, ("a", "b"))
    bad, good = Trial(20, 0.2, 0.1), Trial(20, 0.1, 0.2)
    assert networks.after(bad) == Own((), (), bad)
    assert networks.after(good) == Own(own, ("a", "b"), good)
