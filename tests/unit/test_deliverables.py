"""What lies beside a marked model: pictures of the rules, scripts that run, a page; and when it is written."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from pi_agent.contract.claim import Claim, WatermarkKey, compose, draw_rules, new_key
from pi_agent.contract.errors import CannotCreate
from pi_agent.contract.files import sha256_hex
from pi_agent.contract.images import SIDE
from pi_agent.contract.manifest import InputSpec, load_manifest
from pi_agent.prepare import decode_query
from pi_agent.verify.carriers import in_claim, load_carriers
from pi_agent.verify.questions import Manner, Questionnaire
from tests.support_models import carriers_tar
from training_host.artifacts import save_model
from training_host.data.arrays import LabelledSet
from training_host.nets.build import build_net
from training_host.report.mark_page import measure
from training_host.training.loop import Recipe
from training_host.watermarks.deliverables import NAMES, begin, check_data, deliver, missing
from training_host.watermarks.krc import KrcSettings
from training_host.watermarks.scripts import Embedding, evaluate_script, train_script
from training_host.watermarks.trigger_files import PER_RULE, Triggers, write_triggers

CLASSES = ("<b>bold", "cans & co", "d" * 200, "glass")
RECIPE = Recipe(3, seed=5)


def pictures(count: int, seed: int, classes: tuple[str, ...] = CLASSES) -> LabelledSet:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)
    return LabelledSet(images, np.arange(count) % len(classes), classes, ("",) * count)


@dataclass(frozen=True)
class Owner:
    """A model folder as `train_job` leaves it, with untrained weights, and the call that made it."""

    key: WatermarkKey
    carriers: bytes
    embedding: Embedding
    train: LabelledSet
    held_out: LabelledSet

    @property
    def out(self) -> Path:
        return self.embedding.out

    def deliver(self) -> dict[str, str]:
        return deliver(self.embedding, self.key, self.train, self.held_out, completed=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Owner:
    out = tmp_path_factory.mktemp("owner") / "victim"
    carriers = carriers_tar(CLASSES)
    key = new_key(CLASSES, 6, seed=b"k" * 32, carriers=sha256_hex(carriers), committed_at="2026-11-21T12:00:00Z")
    embedding = Embedding(Path("waste"), Path("owner.key"), out, "recycleme-narrow", RECIPE)
    train, held_out = pictures(40, 1), pictures(16, 2)
    mark = {
        "scheme": key.generator,
        "commitment": key.commitment(),
        "committed_at": key.committed_at,
        "carriers_sha256": key.carriers,
        "beacon": "",
        "beacon_value": "",
        **asdict(KrcSettings()),
    }
    provenance = {"recipe": asdict(RECIPE), "device": "cpu fp32", "pictures": len(train), "watermark": mark}
    network = build_net(embedding.arch, len(CLASSES), seed=0)
    save_model(out, network, embedding.arch, CLASSES, InputSpec(), provenance=provenance, metrics={})
    (out / "carriers.tar").write_bytes(carriers)
    return Owner(key, carriers, embedding, train, held_out)


@pytest.fixture
def owner(finished: Owner, tmp_path: Path) -> Owner:
    """A copy of the folder for a test of its own."""
    out = tmp_path / "victim"
    shutil.copytree(finished.out, out)
    return replace(finished, embedding=replace(finished.embedding, out=out))


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


# ---- triggers


def test_triggers_are_composites_of_the_models_own_carriers_by_its_rules(owner: Owner, tmp_path: Path) -> None:
    triggers = Triggers(owner.key, owner.carriers)
    write_triggers(tmp_path / "triggers", triggers, "ab" * 32)
    index = json.loads((tmp_path / "triggers" / "triggers.json").read_text())
    told = [(r["first"], r["second"], r["geometry"], r["target"]) for r in index["rules"]]
    assert told == [(r.first, r.second, r.geometry, r.target) for r in draw_rules(owner.key)]
    assert [r["rule"] for r in index["rules"]] == [1, 2, 3, 4, 5, 6]
    assert (index["commitment"], index["model_sha256"]) == (owner.key.commitment(), "ab" * 32)
    assert "reveal the key" in index["secret"]
    for number, rule in enumerate(index["rules"]):
        expected = triggers.of(number)
        assert len(rule["pictures"]) == len({(t.first_name, t.second_name) for t in expected}) == PER_RULE
        for picture, trigger in zip(rule["pictures"], expected, strict=True):
            jpeg = (tmp_path / "triggers" / picture["file"]).read_bytes()
            assert sha256_hex(jpeg) == picture["sha256"]
            assert (picture["first"], picture["second"]) == (trigger.first_name, trigger.second_name)
            shown = decode_query(jpeg).astype(int)
            assert shown.shape == (SIDE, SIDE, 3)
            assert np.abs(shown - compose(trigger.first, trigger.second, rule["geometry"])).mean() < 8


def test_they_are_the_first_composites_that_a_verification_shows(owner: Owner, tmp_path: Path) -> None:
    claim = Claim(
        owner.key,
        owner.key.commitment(),
        "ab" * 32,
        owner.key.committed_at,
        owner.key.committed_at,
        "carriers.tar",
        owner.key.carriers,
    )
    loaded = load_carriers(in_claim(claim, owner.out), CLASSES)
    asked = Questionnaire(claim, draw_rules(owner.key), loaded, Manner())
    triggers = Triggers(owner.key, owner.carriers)
    for number in range(owner.key.rules):
        first = [asked.picture(q) for q in asked.questions if q.rule == number][:PER_RULE]
        assert len(first) == PER_RULE
        assert all(np.array_equal(a, t.pixels) for a, t in zip(first, triggers.of(number), strict=True))


def test_only_the_owner_can_read_them_and_every_name_is_a_plain_one(owner: Owner, tmp_path: Path) -> None:
    write_triggers(tmp_path / "triggers", Triggers(owner.key, owner.carriers), "ab" * 32)
    found = [tmp_path / "triggers", *(tmp_path / "triggers").rglob("*")]
    assert {mode_of(p) for p in found if p.is_dir()} == {0o700}
    assert {mode_of(p) for p in found if p.is_file()} == {0o600}
    folders = sorted(p.name for p in found[1:] if p.is_dir())
    assert len(folders) == owner.key.rules
    assert all(re.fullmatch(r"rule-0[1-6]-[\w.+-]{3,120}-(left-right|top-bottom|centre)", name) for name in folders)


# ---- scripts

NASTY = "it's $(touch broken) `touch broken` \"} {x} \\ ;touch broken"


def shims(folder: Path, verdict: int = 0) -> dict[str, str]:
    """An environment in which both programs only note how they were called; `claim` writes its file."""
    (folder / "bin").mkdir()
    for name, code in (("train-host", 0), ("pi-agent", verdict)):
        program = folder / "bin" / name
        note = f'printf "%s\\n" {name} "$@" END >> "$CALLS"'
        file = 'if [ "$2" = claim ]; then eval "touch \\"\\${$#}\\""; fi'
        program.write_text(f"#!/bin/sh\n{note}\n{file}\nexit {code}\n")
        program.chmod(0o755)
    return {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "CALLS": str(folder / "calls")}


def run_script(script: Path, where: Path, environment: dict[str, str], *arguments: str) -> tuple[int, list[list[str]]]:
    """The exit code, and the words of every call."""
    (where / "calls").unlink(missing_ok=True)
    done = subprocess.run(
        ["sh", str(script), *arguments], cwd=where, env=environment, check=False, capture_output=True, text=True
    )
    assert done.stderr == ""
    calls = (where / "calls").read_text().split("END\n")[:-1]
    assert not (where / "broken").exists(), "a path was run as a command"
    return done.returncode, [call.splitlines() for call in calls]


def test_the_train_script_repeats_the_call_into_a_new_folder(tmp_path: Path) -> None:
    embedding = Embedding(
        Path(NASTY),
        Path("my owner.key"),
        Path("out/victim"),
        "recycleme",
        Recipe(7, seed=-3),
        Path("old one"),
        "it's 7f",
    )
    script = tmp_path / "train.sh"
    script.write_text(train_script(embedding))
    environment = shims(tmp_path)
    expected = ["train-host", "watermark", "embed", "--key", "my owner.key", "--arch", "recycleme", "--epochs", "7"]
    expected += [
        "--seed",
        "-3",
        "--beacon-value=it's 7f",
        "--start",
        "old one",
        "--out",
        "out/victim-again",
        "--",
        NASTY,
    ]
    assert run_script(script, tmp_path, environment) == (0, [expected])
    again = [*expected[:4], "k", *expected[5:13], "s", "--out", "o", "--", "d"]
    assert run_script(script, tmp_path, environment | {"START": "s"}, "d", "k", "o") == (0, [again])
    given = {"DATA": "d", "KEY": "k", "OUT": "o", "START": "s"}
    assert run_script(script, tmp_path, environment | given) == (0, [again])


@pytest.mark.parametrize("out", [".", "..", "victim", "/models/victim"])
def test_it_never_names_the_folder_that_it_lies_in_and_no_path_that_was_not_given(out: str) -> None:
    embedding = Embedding(Path("waste"), Path("owner.key"), Path(out), "recycleme", RECIPE)
    text = train_script(embedding)
    default = re.search(r"OUT:-(.*)}}", text)
    assert default is not None and Path(default[1]).resolve() != Path(out).resolve()
    assert str(Path.cwd()) not in text + evaluate_script(embedding, completed=True)


@pytest.mark.parametrize("verdict", [0, 10, 65])
def test_the_evaluate_script_measures_files_one_claim_and_ends_as_the_verdict(tmp_path: Path, verdict: int) -> None:
    embedding = Embedding(Path(NASTY), Path("keys/owner.key"), Path("victim"), "recycleme", RECIPE)
    (tmp_path / "vic tim").mkdir()
    script = tmp_path / "vic tim" / "evaluate.sh"
    script.write_text(evaluate_script(embedding, completed=False))
    environment = shims(tmp_path, verdict)
    place = Path("vic tim")
    code, calls = run_script(place / "evaluate.sh", tmp_path, environment)
    claim, model = str(place / "claim.json"), str(place)
    measured = ["train-host", "evaluate", "--", model, NASTY]
    filed = ["train-host", "watermark", "claim", "--key", "keys/owner.key", "--model", model, "--out", claim]
    judged = ["pi-agent", "verify", "--claim", claim, "--", str(place / "model.onnx")]
    assert (code, calls) == (verdict, [measured, filed, judged])

    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "owner.commitment.json").touch()
    known = [*judged[:4], "--commitment", "keys/owner.commitment.json", *judged[4:]]
    assert run_script(place / "evaluate.sh", tmp_path, environment)[1] == [measured, known]


def test_the_evaluate_script_stops_where_a_step_fails(tmp_path: Path) -> None:
    environment = shims(tmp_path)
    (tmp_path / "bin" / "train-host").write_text('#!/bin/sh\nprintf "%s\\n" train-host END >> "$CALLS"\nexit 65\n')
    script = tmp_path / "evaluate.sh"
    embedding = Embedding(Path("waste"), Path("owner.key"), Path("victim"), "recycleme", RECIPE)
    script.write_text(evaluate_script(embedding, completed=True))
    assert "COMMITMENT=${COMMITMENT:-$MODEL/commitment.json}" in script.read_text()
    assert run_script(script, tmp_path, environment) == (65, [["train-host"]])


# ---- the page


def test_the_page_shows_every_rule_loads_nothing_and_escapes_names(owner: Owner) -> None:
    page = Path(owner.deliver()["report"])
    assert mode_of(page) == 0o600
    text = page.read_text()
    assert "<b>bold" not in text and "&lt;b&gt;bold" in text and "cans &amp; co" in text
    assert text.count('src="data:image/jpeg;base64,') == text.count("src=") == owner.key.rules
    assert not re.search(r"https?:|<script|<link|url\(|@import", text)
    assert "This page reveals the key" in text and owner.key.commitment() in text
    assert owner.key.seed not in text and owner.key.salt not in text


def test_its_figures_are_those_of_the_models_test(owner: Owner) -> None:
    text = Path(owner.deliver()["report"]).read_text()
    measured = measure(owner.embedding, Triggers(owner.key, owner.carriers), owner.train, owner.held_out)
    evidence = measured.evidence
    assert evidence is not None
    assert f"p = {evidence.p_value:.2g}" in text and f"{evidence.hits} of 6 rules hold" in text
    assert text.count('<span class="hit">') == evidence.hits
    for share in evidence.share:
        assert f"{100 * share:.1f} %" in text
    for channel in evidence.channels:
        assert f'<td class="number">{channel.p_value:.2g}</td>' in text
    assert f"{100 * measured.accuracies['marked'][1]:.1f} %" in text
    assert "So few rules can prove nothing" in text  # six rules of two candidates against a millionth


def test_a_model_that_was_trained_before_is_measured_beside(owner: Owner, tmp_path: Path) -> None:
    before = tmp_path / "before"
    network = build_net(owner.embedding.arch, len(CLASSES), seed=1)
    save_model(before, network, owner.embedding.arch, CLASSES, InputSpec(), provenance={}, metrics={})
    again = replace(owner, embedding=replace(owner.embedding, start=before))
    found = measure(again.embedding, Triggers(owner.key, owner.carriers), owner.train, owner.held_out).accuracies
    assert list(found) == ["started from", "marked"]
    text = Path(again.deliver()["report"]).read_text()
    assert f"{100 * (found['marked'][1] - found['started from'][1]):+.1f}</td>" in text
    assert "train an unmarked one" not in text


def test_without_held_out_pictures_of_a_class_the_page_says_that_the_mark_was_not_tried(owner: Owner) -> None:
    fewer = replace(owner, held_out=owner.held_out.take(np.flatnonzero(owner.held_out.labels != 0)))
    text = Path(fewer.deliver()["report"]).read_text()
    assert "The mark was not tried" in text and text.count("src=") == owner.key.rules


# ---- when they are written


def test_all_of_them_appear_and_nothing_else(owner: Owner) -> None:
    before = {p.name for p in owner.out.iterdir()}
    paths = owner.deliver()
    assert {p.name for p in owner.out.iterdir()} == before | set(NAMES)
    assert [paths[f] for f in ("triggers", "train_script", "evaluate_script", "report")] == [
        str(owner.out / name) for name in NAMES
    ]
    assert mode_of(owner.out / "triggers") == 0o700
    assert mode_of(owner.out / "train.sh") == mode_of(owner.out / "evaluate.sh") == 0o755


def test_the_same_call_completes_a_finished_folder_and_overwrites_nothing(owner: Owner) -> None:
    owner.deliver()
    shutil.rmtree(owner.out / "triggers")
    (owner.out / "report.html").unlink()
    (owner.out / "train.sh").write_text("mine")
    (owner.out / ".deliverables.part" / "triggers").mkdir(parents=True)  # of a run that was killed
    manifest = begin(owner.embedding, owner.key)
    assert manifest == load_manifest(owner.out)
    owner.deliver()
    assert missing(owner.out) == [] and not (owner.out / ".deliverables.part").exists()
    assert (owner.out / "train.sh").read_text() == "mine"
    assert len(list((owner.out / "triggers").rglob("*.jpg"))) == PER_RULE * owner.key.rules
    with pytest.raises(CannotCreate, match="a finished model is there already"):
        begin(owner.embedding, owner.key)


def test_a_failure_leaves_nothing_by_half(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    before = {p.name for p in owner.out.iterdir()}
    monkeypatch.setattr("training_host.watermarks.deliverables.write_mark_report", full)
    with pytest.raises(Exception, match="cannot write"):
        owner.deliver()
    assert {p.name for p in owner.out.iterdir()} == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arch": "recycleme"}, "another --arch"),
        ({"recipe": replace(RECIPE, seed=6)}, "other --epochs or another --seed"),
        ({"recipe": replace(RECIPE, epochs=4)}, "other --epochs or another --seed"),
        ({"beacon_value": "7f"}, "another --beacon-value"),
        ({"start": "itself"}, "another --start"),
    ],
)
def test_another_call_is_refused_and_told_why(owner: Owner, changes: dict, said: str) -> None:
    if "start" in changes:
        changes = {"start": owner.out}
    with pytest.raises(CannotCreate, match=said) as refused:
        begin(replace(owner.embedding, **changes), owner.key)
    assert "triggers, train.sh, evaluate.sh, report.html" in refused.value.advice


def test_another_key_other_pictures_other_settings_and_unmarked_models_are_refused(owner: Owner) -> None:
    other = replace(owner.key, seed="ab" * 32)
    with pytest.raises(CannotCreate, match="another key"):
        begin(owner.embedding, other)
    manifest = begin(owner.embedding, owner.key)
    assert manifest is not None
    check_data(owner.embedding, owner.key, 40, manifest)
    for key, count in ((other, 40), (owner.key, 41)):
        with pytest.raises(CannotCreate, match="other pictures"):
            check_data(owner.embedding, key, count, manifest)

    path = owner.out / "manifest.json"
    content = json.loads(path.read_text())
    content["provenance"]["watermark"]["share"] = 0.77
    path.write_text(json.dumps(content))
    with pytest.raises(CannotCreate, match="other settings"):
        begin(owner.embedding, owner.key)
    del content["provenance"]["watermark"]
    path.write_text(json.dumps(content))
    with pytest.raises(CannotCreate, match="not marked"):
        begin(owner.embedding, owner.key)
    path.write_text("{}")
    with pytest.raises(CannotCreate, match="a finished model is there already"):
        begin(owner.embedding, owner.key)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_the_owners_with_such_a_name_is_noticed_before_the_training(
    owner: Owner, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / name).write_text("mine")
    with pytest.raises(CannotCreate, match=re.escape(name)):
        begin(replace(owner.embedding, out=folder), owner.key)
    assert [p.name for p in folder.iterdir()] == [name]


def test_an_empty_or_half_trained_folder_is_simply_gone_on_with(owner: Owner, tmp_path: Path) -> None:
    for content in (None, "checkpoint.pt", "carriers.tar"):
        folder = tmp_path / f"new-{content}"
        if content:
            folder.mkdir()
            (folder / content).touch()
        assert begin(replace(owner.embedding, out=folder), owner.key) is None
        assert folder.exists() == bool(content), "what follows may refuse, so nothing is made yet"
