"""The runner of removal suites: what is measured, what counts, what is kept when it is interrupted or fails."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pi_agent.contract.claim import draw_rules, new_key
from pi_agent.contract.errors import RefusedInput
from tests.support_nets import CLASSES, CPU, GLANCE, coloured_set
from training_host.nets.build import build_net
from training_host.removal.base import EVASION, EXTRACTION, MODIFICATION, Stolen, Thief
from training_host.removal.judgement import Judge
from training_host.removal.run import Job, jobs_of, run_suite
from training_host.removal.subject import HonestNetworks, Subject, digest_of
from training_host.removal.suites import SUITES
from training_host.removal.summary import cells, failures, lines, summarise
from training_host.report.removal_page import write_removal_report
from training_host.training.loop import Recipe
from training_host.training.supervised import train_classifier
from training_host.watermarks.krc import KrcSettings

KEY = new_key(CLASSES, 6, alpha=0.05, seed=b"k" * 32)
SCHEME = KrcSettings(per_step=24, weight=1.0)


@dataclass(frozen=True)
class Nothing:
    """Serves the stolen network, and notes that it was called."""

    diary: str = ""
    kind: str = EVASION

    def steal(self, thief: Thief) -> Stolen:
        if self.diary:
            with Path(self.diary).open("a") as stream:
                stream.write(f"{thief.seed}\n")
        return Stolen.of(thief.network, thief.device)


@dataclass(frozen=True)
class OwnNetwork:
    """Steals nothing: what an attack with perfect success looks like."""

    kind: str = EXTRACTION

    def steal(self, thief: Thief) -> Stolen:
        return Stolen.of(thief.honest(1), thief.device)


@dataclass(frozen=True)
class Wreck:
    """Noise on all weights; `to`: what is written there instead."""

    to: float | None = None
    kind: str = MODIFICATION

    def steal(self, thief: Thief) -> Stolen:
        network = copy.deepcopy(thief.network)
        with torch.no_grad():
            for weight in network.parameters():
                noise = torch.randn(weight.shape, generator=thief.generator())
                weight.copy_(noise if self.to is None else torch.full_like(weight, self.to))
        return Stolen.of(network, thief.device)


@dataclass(frozen=True)
class Clumsy:
    """Cannot be carried out while there is no `needed` file."""

    needed: str
    kind: str = MODIFICATION

    def steal(self, thief: Thief) -> Stolen:
        if not Path(self.needed).exists():
            raise RuntimeError("no\n  tool")
        return Stolen.of(thief.network, thief.device)


pytestmark = pytest.mark.usefixtures("quick_network")


@pytest.fixture(scope="module")
def subject(quick_network: None) -> Subject:
    data, held_out = coloured_set(256, 1), coloured_set(120, 2)
    mark = SCHEME.mark(KEY, data, CPU)
    recipe = Recipe(5, seed=1)
    network = train_classifier(GLANCE, data, recipe, CPU, mark=mark)
    judge, made_of = Judge(SCHEME, KEY, held_out), ("model", KEY.commitment(), digest_of(data, held_out))
    return Subject(network, GLANCE, data, held_out, judge, replace(recipe, epochs=3), CPU, made_of, 6)


@pytest.fixture(scope="module")
def hasty(subject: Subject) -> Subject:
    """Hardly any training, where nobody looks at what networks can do; of an architecture that all processes know."""
    arch = "recycleme-narrow"
    network = build_net(arch, len(CLASSES), seed=0).eval()
    few = subject.train.take(np.arange(64))
    return replace(subject, network=network, arch=arch, recipe=Recipe(1, seed=1), train=few)


def without_seconds(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in r.items() if name != "seconds"} for r in results]


def test_survived_broken_spoiled_and_failed_are_told_apart_and_the_worst_comes_first(subject: Subject, tmp_path: Path):
    suite = {
        "as it is": Nothing(),
        "noise": Wreck(),
        "a network of one's own": OwnNetwork(),
        "no numbers": Wreck(float("nan")),
        "clumsy": Clumsy(str(tmp_path / "tool")),
    }
    before = {name: value.clone() for name, value in subject.network.state_dict().items()}
    summary = summarise(run_suite(subject, jobs_of(suite, 1), tmp_path, 1), KEY.alpha)
    assert all(torch.equal(value, before[name]) for name, value in subject.network.state_dict().items())
    verdicts = {attack["name"]: attack["verdict"] for attack in summary["attacks"]}
    assert verdicts == {
        "a network of one's own": "broken",
        "as it is": "survived",
        "noise": "spoiled the model",
        "no numbers": "spoiled the model",
        "clumsy": "failed",
    }
    assert [a["name"] for a in summary["attacks"]][:2] == ["a network of one's own", "as it is"]
    assert summary["worst"] == "a network of one's own"
    assert summary["counts"] == {"survived": 1, "broken": 1, "spoiled the model": 2, "failed": 1}
    assert lines(summary)[0].startswith("worst case: a network of one's own: broken, p = ")
    assert failures(summary) == ["clumsy"]
    assert "RuntimeError: no tool" in cells(summary["attacks"][-1])
    marked, honest = summary["marked"], summary["honest"]
    assert marked["p_value"] <= KEY.alpha < honest["p_value"]
    assert (marked["hits"], marked["rules"]) == (6, 6) and marked["wsr"] > 0.75 > honest["wsr"]
    assert set(marked["channels"]) == {"rule-hits", "hints", "score-sum"}


def test_the_limit_of_five_points_decides_what_counts():
    def result(name: str, accuracy: float, p_value: float, kind: str = EXTRACTION) -> dict[str, Any]:
        figures = {"floor": 1e-8, "channels": {}, "hits": 1, "rules": 6, "wsr": 0.5, "seconds": 1.0}
        return {"name": name, "kind": kind, "seed": 0, "accuracy": accuracy, "p_value": p_value, **figures}

    references = [result("marked", 0.8, 1e-7, "reference"), result("honest", 0.81, 0.5, "reference")]
    attacks = [result("at the limit", 0.75, 0.3), result("beyond", 0.7499, 0.9), result("better", 0.9, 1e-6)]
    summary = summarise([*references, *attacks], alpha=1e-6)
    assert [(a["name"], a["verdict"]) for a in summary["attacks"]] == [
        ("at the limit", "broken"),
        ("better", "survived"),
        ("beyond", "spoiled the model"),
    ]
    assert summary["honest"]["accuracy_change"] == pytest.approx(1)
    assert not any("too few rules" in line for line in lines(summary))
    weak = [{**reference, "floor": 1e-5} for reference in references]
    assert "the smallest p that this key can give is 1e-05" in lines(summarise([*weak, *attacks], 1e-6))[-1]
    assert "no attack left" in lines(summarise([*references, attacks[1]], 1e-6))[0]


def test_over_several_seeds_the_worst_run_that_counts_speaks_for_the_attack():
    base = {"name": "a", "kind": EXTRACTION, "hits": 1, "rules": 6, "wsr": 0.5, "seconds": 2.0, "channels": {}}
    reference = {**base, "kind": "reference", "accuracy": 0.8, "p_value": 1e-7}
    runs = [
        {**base, "seed": seed, "accuracy": accuracy, "p_value": p}
        for seed, (accuracy, p) in enumerate([(0.8, 1e-9), (0.78, 1e-3), (0.5, 1.0)])
    ]
    (attack,) = summarise([reference, reference, *runs], 1e-6)["attacks"]
    assert (attack["verdict"], attack["p_value"], attack["seed"]) == ("broken", 1e-3, 1)
    assert [run["verdict"] for run in attack["runs"]] == ["survived", "broken", "spoiled the model"]
    assert attack["seconds"] == 6
    failed = summarise([reference, reference, *runs, {**base, "seed": 3, "error": "E: no"}], 1e-6)["attacks"][0]
    assert failed["verdict"] == "failed" and failed["error"] == "E: no" and len(failed["runs"]) == 4


def test_what_is_finished_is_not_done_again_and_what_failed_is(hasty: Subject, tmp_path: Path):
    diary, tool = tmp_path / "diary", tmp_path / "tool"
    jobs = jobs_of({"as it is": Nothing(str(diary)), "clumsy": Clumsy(str(tool))}, 2)
    first = run_suite(hasty, jobs, tmp_path / "out", 1)
    assert diary.read_text().split() == ["2", "3"]  # two seeds, none of them the marked model's
    assert ["error" in result for result in first] == [False, False, False, True, False, True]
    tool.touch()
    reported: list[dict[str, Any]] = []
    again = run_suite(hasty, jobs, tmp_path / "out", 1, reported.append)
    assert diary.read_text().split() == ["2", "3"]
    assert not any("error" in result for result in again) and len(reported) == 6
    assert [r for r in first if "error" not in r] == [again[i] for i in (0, 1, 2, 4)]


def test_a_damaged_result_costs_time_only(subject: Subject, tmp_path: Path):
    diary = tmp_path / "diary"
    jobs = [Job("as it is", Nothing(str(diary)), 0)]
    whole = run_suite(subject, jobs, tmp_path, 1)
    path = jobs[0].path(subject, tmp_path)
    for damage in (b'{"half', b"[]", json.dumps({**whole[0], "identity": "0" * 64}).encode()):
        path.write_bytes(damage)
        assert without_seconds(run_suite(subject, jobs, tmp_path, 1)) == without_seconds(whole)
    assert len(diary.read_text().split()) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"made_of": ("another model",)},
        {"recipe": Recipe(4, seed=1)},
        {"recipe": Recipe(3, seed=2)},
    ],
    ids=["made of", "epochs", "seed"],
)
def test_a_result_of_something_else_is_not_taken(subject: Subject, change: dict[str, Any]):
    job = Job("as it is", Nothing(), 0)
    known = job.identity(subject)
    assert job.identity(replace(subject, **change)) != known
    assert Job("as it is", Nothing("elsewhere"), 0).identity(subject) != known
    assert Job("as it is", Nothing(), 1).identity(subject) != known
    assert Job("another name", Nothing(), 0).identity(subject) == known


def test_the_digest_of_the_data_sees_pixels_labels_and_order():
    data = coloured_set(8, 1)
    other = data.images.copy()
    other[3, 5, 5, 0] ^= 1
    order = np.array([1, 0, *range(2, 8)])
    variants = [data, replace(data, images=other), replace(data, labels=(data.labels + 1) % 4), data.take(order)]
    assert len({digest_of(v) for v in variants}) == 4
    assert digest_of(data) == digest_of(coloured_set(8, 1))


def test_several_processes_find_what_one_finds(hasty: Subject, tmp_path: Path):
    suite = {"noise": Wreck(), "clumsy": Clumsy(str(tmp_path / "tool")), "a network of one's own": OwnNetwork()}
    alone, together = (
        run_suite(hasty, jobs_of(suite, 1), tmp_path / str(n), processes) for n, processes in enumerate((1, 2))
    )
    assert without_seconds(alone) == without_seconds(together)
    assert len(list((tmp_path / "1" / "attacks").glob("*.json"))) == 5


def test_honest_networks_are_trained_once_differ_and_are_the_callers_to_change(hasty: Subject, tmp_path: Path):
    honest = HonestNetworks(hasty, tmp_path)
    first, second = honest(0), honest(1)
    weight = next(first.parameters())
    assert not torch.equal(weight, next(second.parameters()))
    with torch.no_grad():
        next(first.parameters()).zero_()
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.safetensors")}
    assert float(next(honest(0).parameters()).detach().abs().sum()) > 0
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.safetensors")} and len(files) == 2
    assert not list(tmp_path.glob("*.pt"))


def test_a_judge_without_pictures_of_a_source_refuses(subject: Subject):
    used = draw_rules(KEY)[0].first
    keep = np.flatnonzero(subject.held_out.labels != CLASSES.index(used))
    with pytest.raises(RefusedInput, match="too few held-out pictures"):
        Judge(SCHEME, KEY, subject.held_out.take(keep))


def test_the_page_escapes_names_and_shows_every_attack(tmp_path: Path):
    known = {"seed": 0, "seconds": 1.0, "attack": "A()", "channels": {}, "hits": 1, "rules": 6, "wsr": 0.5}
    marked = {"name": "marked", "kind": "reference", "accuracy": 0.8, "p_value": 1e-7, "floor": 1e-8, **known}
    attacks = [
        {**marked, "name": "<b>bold</b>", "kind": EXTRACTION, "attack": "B('<i>')"},
        {**marked, "name": "spoiled", "kind": MODIFICATION, "accuracy": 0.2, "p_value": 1.0},
        {**marked, "name": "clumsy & sorry", "kind": EVASION, "error": "RuntimeError: no tool"},
    ]
    context = {
        "made_at": "2026-01-01T00:00:00Z",
        "made_by": "train-host",
        "suite": "toy",
        "seeds": 1,
        "epochs": 3,
        "model": {"name": "m", "arch": "a", "weights_sha256": "0"},
        "commitment": "0",
        "data_sha256": "0",
        "pictures": {"train": 1, "held_out": 1},
    }
    page = write_removal_report(tmp_path, {**context, **summarise([marked, marked, *attacks], 1e-6)}).read_text()
    assert "<b>bold" not in page and "&lt;b&gt;bold&lt;/b&gt;" in page and "clumsy &amp; sorry" in page
    assert "<i>" not in page and "RuntimeError: no tool" in page and "spoiled the model" in page
    assert "<svg" in page and not any(word in page for word in ("<script", "<link", "src=", 'href="http', "@import"))


@pytest.mark.parametrize("suite", SUITES)
def test_attacks_of_the_suites_have_names_kinds_and_an_identity_of_their_own(suite: str):
    attacks = SUITES[suite]
    assert {a.kind for a in attacks.values()} == {EXTRACTION, MODIFICATION, EVASION}
    identities = [repr(a) for a in attacks.values()]
    assert len(set(identities)) == len(identities)
    assert not any(" at 0x" in text for text in identities)
