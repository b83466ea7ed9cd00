"""The host's commands as CLI.md promises them: names, options, JSON keys, exit codes."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from pi_agent.contract.claim import check_commitment, load_claim
from pi_agent.contract.files import sha256_hex
from pi_agent.contract.manifest import load_manifest
from pi_agent.contract.output import run
from pi_agent.contract.transfer_set import TransferItem, write_transfer_set
from pi_agent.prepare import decode_query, prepare_bytes, shrink_to
from training_host.artifacts import load_network
from training_host.cli import VERBS, cli
from training_host.data.sources import TRAIN, class_names, find_pictures
from training_host.nets.build import build_net
from training_host.training.device import best_device
from training_host.training.evaluate import predict


class Host:
    """Calls `train-host` in this process and returns exit code, result and error."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, dict, dict]:
        self._capsys.readouterr()
        code = run(cli, "train-host", [*map(str, arguments), "--json"])
        said = self._capsys.readouterr()
        errors = [line for line in said.err.splitlines() if line.startswith("{")]
        assert "Traceback" not in said.err
        return code, json.loads(said.out or "{}"), json.loads(errors[-1])["error"] if errors else {}


@pytest.fixture
def host(capsys: pytest.CaptureFixture[str]) -> Host:
    return Host(capsys)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("host")


def test_the_owners_and_the_adversarys_journey(host: Host, work: Path):
    data = work / "waste"
    code, made, _ = host("data", "make", data, "--per-class", 20, "--seed", 4)
    assert code == 0 and made["schema"] == "data-make/1" and made["pictures"] == 240
    code, info, _ = host("data", "info", data)
    assert code == 0 and info["images"] == 240 and info["classes"]["shoes"] == 20

    keygen = ("keygen", "--classes", *made["classes"], "--rules", 4, "--carriers", data, "--out", work / "owner.key")
    code, key, _ = host("watermark", *keygen)
    assert code == 0 and key["rules"] == 4 and len(key["commitment"]) == 64
    assert (work / "owner.key").stat().st_mode & 0o077 == 0
    options = ("--arch", "recycleme-narrow", "--epochs", 1)
    code, marked, _ = host("watermark", "embed", data, "--key", work / "owner.key", "--out", work / "victim", *options)
    assert code == 0 and marked["commitment"] == key["commitment"] and 0 <= marked["accuracy_held_out"] <= 1
    assert marked["carriers_sha256"] == sha256_hex((work / "victim" / "carriers.tar").read_bytes())
    assert set(marked["mark_channels"]) == {"rule-hits", "hints", "score-sum"}
    claim_of = ("--key", work / "owner.key", "--model", work / "victim")
    code, claim, _ = host("watermark", "claim", *claim_of, "--out", work / "c.json")
    assert code == 0 and (work / claim["carriers"]).is_file()
    assert (work / "c.json").stat().st_mode & 0o077 == 0
    assert claim["claim_sha256"] == sha256_hex((work / "c.json").read_bytes())
    filed = load_claim(work / "c.json")
    assert filed.commitment == key["commitment"] and filed.key.owner == key["owner"]
    assert check_commitment(Path(key["commitment_path"]), filed) == filed.committed_at

    code, trained, _ = host("train", data, "--out", work / "other", "--seed", 3, *options)
    assert code == 0 and trained["schema"] == "train/1"
    code, _, _ = host("train", data, "--out", work / "pillow", "--resize", "bicubic", *options)
    assert code == 0 and load_manifest(work / "pillow").input.resize == "bicubic"
    code, result, _ = host("evaluate", work / "victim", data)
    assert code == 0 and set(result["per_class"]) == set(made["classes"])
    assert result["accuracy"] == pytest.approx(marked["accuracy_held_out"], abs=0.02)

    rng = np.random.default_rng(0)
    items = []
    for picture in find_pictures(data)[::3]:
        image = prepare_bytes(picture.read())
        vector = rng.dirichlet(np.ones(12)).astype(np.float32)
        twice = vector[[*range(1, 12), 0]] if len(items) < 5 else vector  # the oracle is noisy
        items.append(TransferItem(image.sha256, image.jpeg, tuple(made["classes"]), np.stack([vector, twice])))
    write_transfer_set(work / "night.tar", {}, items)
    code, copied, _ = host("distill", work / "night.tar", "--out", work / "copy", *options, "--budget", 60)
    assert code == 0 and copied["queries"] == 60 and load_manifest(work / "copy").provenance["weighted"]
    heard = ("--own", work / "other", "--own", work / "victim", "--pool", data)
    more = (*options, *heard, "--truth", 0.5, "--start", work / "other")
    code, begun, _ = host("distill", work / "night.tar", "--out", work / "begun", *more)
    trained_with = [p for p in find_pictures(data) if p.part == TRAIN]
    assert code == 0 and begun["labels"] == begun["pool"] == len(trained_with)
    manifest = load_manifest(work / "begun").provenance
    assert manifest["own"] == [load_manifest(work / n).onnx_sha256 for n in ("other", "victim")]
    assert manifest["started_from"] == manifest["own"][0]
    taught = manifest["teaching"]
    assert (taught["echo"], taught["moves"], taught["loss"]) == (1, "all", "log-scores")
    code, folded, _ = host("distill", "--out", work / "folded", *options, *heard)
    assert code == 0 and folded["queries"] == 0 and 0 <= folded["agreement_on_transfer_set"] <= 1
    manifest = load_manifest(work / "folded").provenance
    assert manifest["started_from"] is None and manifest["pool"] == begun["pool"]
    assert manifest["teaching"]["echo"] == 1 and manifest["teaching"]["steady"] == 0.3
    own_networks_on_trial(host, work, data, options)
    labels = ("--hard", "--alike", "--budget", 40)
    code, _, _ = host("distill", work / "night.tar", "--out", work / "hard", *labels, *options)
    taught = load_manifest(work / "hard").provenance
    assert code == 0 and taught["teaching"]["loss"] == "kl" and not taught["weighted"]
    code, _, error = host("distill", "--out", work / "nothing", *options, *heard[:4])
    assert code == 2 and "fold" in error["message"] and not (work / "nothing").exists()
    line = ("distill", work / "night.tar", "--out", work / "no", "--arch", "recycleme", "--start", work / "other")
    code, _, error = host(*line)
    assert code == 65 and "recycleme-narrow" in error["message"] and not (work / "no").exists()
    line = ("distill", work / "night.tar", *options, "--own", work / "pillow", "--start", work / "other")
    code, _, error = host(*line, "--out", work / "no")
    assert code == 65 and "area, not bicubic" in error["message"] and not (work / "no").exists()
    code, int8, _ = host("export", work / "copy", "--int8", "--calibration", work / "night.tar")
    assert code == 0 and int8["form"] == "int8" and Path(int8["path"]).name == "copy-int8"

    sets = (f"standard={data / 'shoes'}", f"other={data / 'metal'}")
    code, score, _ = host(
        "score", work / "copy", "--victim", work / "victim", "--independent", work / "other", "--set", *sets
    )
    assert code == 0 and set(score["sets"]) == {"standard", "other"}
    for figures in score["sets"].values():
        assert set(figures) >= {"l2", "l2_independent", "l2_mean_predictor", "agreement", "points"}
        assert figures["points"] == pytest.approx(100 * (1 - figures["l2"] / figures["l2_independent"]))

    code, _, error = host("train", data, "--out", work / "other", *options)
    assert code == 73 and "already" in error["message"]


def test_a_copy_does_not_begin_where_its_victim_began(host: Host, work: Path):
    """Without --seed all have the same one; with the same first weights a copy would be nearer than an adversary's."""
    data = work / "few"
    assert host("data", "make", data, "--per-class", 10, "--seed", 1)[0] == 0
    keygen = ("keygen", "--classes", *class_names(find_pictures(data)), "--carriers", data, "--out", work / "few.key")
    assert host("watermark", *keygen)[0] == 0
    options = ("--arch", "recycleme-narrow", "--epochs", 1)
    embed = ("watermark", "embed", data, "--key", work / "few.key", "--out", work / "few-marked", *options)
    assert host(*embed)[0] == host("train", data, "--out", work / "few-own", *options)[0] == 0
    items = [
        TransferItem(image.sha256, image.jpeg, class_names(find_pictures(data)), np.full((1, 12), 1 / 12, np.float32))
        for image in (prepare_bytes(picture.read()) for picture in find_pictures(data)[:20])
    ]
    write_transfer_set(work / "few.tar", {}, items)
    assert host("distill", work / "few.tar", "--out", work / "few-copy", *options)[0] == 0
    made = [load_manifest(work / f"few-{name}").provenance["recipe"]["seed"] for name in ("marked", "own", "copy")]
    first = [next(build_net("recycleme-narrow", 12, seed).parameters()) for seed in made]
    assert all((a != b).any() for a, b in combinations(first, 2))


def own_networks_on_trial(host: Host, work: Path, data: Path, options: tuple) -> None:
    """A victim that answers as one of them does, and one whose labels have nothing to do with the pictures."""
    network, manifest = load_network(work / "other")
    asked = [prepare_bytes(picture.read()) for picture in find_pictures(data)[::2]]
    pictures = np.stack([shrink_to(decode_query(image.jpeg), manifest.input) for image in asked])
    same = np.eye(12, dtype=np.float32)[:1].repeat(len(asked), axis=0)
    names = [load_manifest(work / n).onnx_sha256 for n in ("other", "victim")]
    for out, answers, heard in (("like", predict(network, pictures, best_device()), True), ("unlike", same, False)):
        items = [
            TransferItem(image.sha256, image.jpeg, manifest.classes, vector[None])
            for image, vector in zip(asked, answers, strict=True)
        ]
        write_transfer_set(work / f"{out}.tar", {}, items)
        line = ("distill", work / f"{out}.tar", *options, "--own", work / "other", "--own", work / "victim")
        line = (*line, "--pool", data)
        code, result, _ = host(*line, *(() if heard else ("--epochs", 10)), "--out", work / out)
        trial, made = result["own_trial"], load_manifest(work / out).provenance
        assert code == 0 and trial["aside"] == 24 and (trial["own"] <= trial["alone"]) == heard
        assert made["own"] == (names if heard else []) and made["own_trial"] == trial
        assert made["teaching"]["echo"] == float(heard)
    code, result, _ = host(*line, "--echo", 1, "--out", work / "in-any-case")
    made = load_manifest(work / "in-any-case").provenance
    assert code == 0 and result["own_trial"] is None and made["own"] == names and made["teaching"]["echo"] == 1


def test_the_default_data_is_the_same_for_the_same_seed(host: Host, work: Path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert host("data", "make", work / name, "--per-class", 1, "--seed", seed)[0] == 0
    first, again, other = ([p.read_bytes() for p in sorted((work / n).rglob("*.jpg"))] for n in "abc")
    assert first == again and all(x != y for x, y in zip(first, other, strict=True))


BAD = [
    (("train", "{missing}", "--out", "{out}"), 65),
    (("train", "{empty}", "--out", "{out}"), 65),
    (("train", "{empty}", "--arch", "resnet", "--out", "{out}"), 2),
    (("train", "{empty}", "--out", "{text}/out"), 73),
    (("evaluate", "{empty}", "{empty}"), 65),
    (("export", "{empty}", "--out", "{out}"), 65),
    (("distill", "{text}", "--out", "{out}"), 65),
    (("distill", "{missing}", "--out", "{out}"), 65),
    (("distill", "{text}", "--resize", "cubic", "--out", "{out}"), 2),
    (("probe", "make", "--pool", "{empty}", "--out", "{out}.tar"), 65),
    (("probe", "make", "--pool", "{empty}", "--out", "{text}"), 2),
    (("probe", "judge", "{text}", "--probes", "{text}"), 65),
    (("probe", "judge", "{missing}", "--probes", "{missing}"), 65),
    (("score", "{empty}", "--victim", "{empty}", "--independent", "{empty}", "--set", "nonsense"), 2),
    (("watermark", "keygen", "--classes", "a", "b", "--out", "{out}"), 78),
    (("watermark", "keygen", "--classes", "a", "b", "c", "d", "--out", "{text}"), 73),
    (("watermark", "embed", "{empty}", "--key", "{text}", "--out", "{out}"), 78),
    (("train", "{empty}", "--out", "{text}"), 2),
    (("demo", "--out", "{text}"), 2),
    (("data", "info", "{text}"), 65),
    (("fly",), 2),
]


@pytest.mark.parametrize(("line", "code"), BAD, ids=[" ".join(line) for line, _ in BAD])
def test_bad_input_ends_with_its_code_one_line_and_a_hint(host: Host, tmp_path: Path, line: tuple, code: int):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("hello")
    places = {n: str(tmp_path / n) for n in ("missing", "empty", "text", "out")}
    found, _, error = host(*(part.format(**places) for part in line))
    assert found == code == error["exit"]
    assert error["message"] and "\n" not in error["message"] and error["hint"]
    assert not (tmp_path / "out").exists(), "a refusal leaves nothing behind"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]):
    run(cli, "train-host", [verb, "--help"])
    assert f"Example: train-host {verb}" in capsys.readouterr().out
