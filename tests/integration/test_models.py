"""The committed artefacts are what their manifests, cards and results say."""

import json
from pathlib import Path

import pytest

from pi_agent.contract.claim import load_claim
from pi_agent.contract.files import sha256_hex
from pi_agent.contract.manifest import load_manifest
from pi_agent.verify import verify_file
from pi_agent.verify.dispute import settle
from training_host.data.arrays import load_labelled
from training_host.data.make import make_data
from training_host.data.sources import HELD_OUT, find_pictures
from training_host.data.waste import CLASSES
from training_host.predictor import load_predictor

MODELS = Path(__file__).resolve().parents[2] / "models"
RESULTS = json.loads((MODELS / "results.json").read_text())
NAMES = sorted(RESULTS["models"])


def test_the_folder_stays_small():
    assert sum(p.stat().st_size for p in MODELS.rglob("*") if p.is_file()) < 12_000_000


@pytest.mark.parametrize("name", NAMES)
def test_hashes_and_cards(name: str):
    manifest = load_manifest(MODELS / name)
    assert sha256_hex((MODELS / name / "model.onnx").read_bytes()) == manifest.onnx_sha256
    assert manifest.licence == "MIT" and manifest.provenance["recipe"]
    card = (MODELS / name / "CARD.md").read_text()
    verdict = RESULTS["verdicts"][name]
    assert f"**{verdict['verdict']}**" in card and f"{verdict['hits']} of {verdict['rules']} rules" in card


def test_the_claim_is_for_the_victim_and_its_carriers():
    claim = load_claim(MODELS / "claim.json")
    assert claim.model_sha256 == load_manifest(MODELS / "victim").onnx_sha256
    assert claim.carriers_sha256 == sha256_hex((MODELS / claim.carriers).read_bytes())


@pytest.mark.parametrize("name", NAMES)
def test_verification_gives_the_recorded_verdict(name: str):
    result = verify_file(MODELS / name / "model.onnx", MODELS / "claim.json")
    recorded = RESULTS["verdicts"][name]
    assert (result.verdict, result.evidence.hits) == (recorded["verdict"], recorded["hits"])
    assert result.evidence.p_value == pytest.approx(recorded["p_value"])
    assert result.is_claimed_model == (name == "victim")


def test_accuracies_are_reproduced_on_data_rendered_anew(tmp_path: Path):
    plan = RESULTS["plan"]
    for name in CLASSES:
        (tmp_path / name).mkdir()
        for index in range(plan["per_class"]):
            (tmp_path / name / f"{index:05d}.jpg").touch()
    for picture in find_pictures(tmp_path):
        if picture.part == HELD_OUT:
            (tmp_path / picture.name).unlink()
    make_data(tmp_path, plan["seed"], plan["per_class"])  # keeps what is there: only the held-out part is rendered
    held_out = [p for p in find_pictures(tmp_path) if p.part == HELD_OUT]
    assert len(held_out) > 200
    for name in NAMES:
        model = load_predictor(MODELS / name)
        data = load_labelled(held_out, model.classes, model.manifest.input)
        accuracy = float((model.scores_of(data.images).argmax(1) == data.labels).mean())
        assert accuracy == pytest.approx(RESULTS["models"][name]["accuracy"], abs=0.011), name


def test_the_dispute_about_the_overwritten_model_is_decided_for_the_owner():
    thief, recorded = MODELS / "overwritten", RESULTS["overwriting"]
    model = thief / "model.onnx"
    assert (
        sha256_hex(model.read_bytes())
        == load_manifest(thief).onnx_sha256
        == load_claim(thief / "claim.json").model_sha256
    )
    assert (recorded["verdict"]["verdict"], recorded["own_verdict"]["verdict"]) == ("owned", "owned")
    assert f"p = {recorded['verdict']['p_value']:.3g}" in (thief / "CARD.md").read_text()
    claims = [MODELS / "claim.json", thief / "claim.json"]
    commitments = [MODELS / "owner.commitment.json", thief / "commitment.json"]
    for order, winner in ((1, "first"), (-1, "second")):
        sides = claims[::order], [MODELS / "victim" / "model.onnx", model][::order]
        assert settle(*sides, model, commitments=commitments).ruling.winner == winner
    assert settle(claims, [MODELS / "victim" / "model.onnx", model]).ruling.winner == "undecided", (
        "nothing was published"
    )
    assert recorded["dispute"]["winner"] == "first"
