"""`pi-agent verify` end to end: real files, real child processes, verdicts and exit codes of the contract."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

from pi_agent.contract.claim import Claim, WatermarkKey, draw_rules, load_claim
from pi_agent.contract.files import sha256_hex
from pi_agent.contract.manifest import InputSpec
from pi_agent.prepare import encode_query, network_input, shrink_to
from pi_agent.runtime.inspect import inspect_model
from pi_agent.verify import Manner, Terms, open_case, verify_file
from pi_agent.verify.carriers import in_claim, load_carriers
from pi_agent.verify.questions import Questionnaire
from tests.support_models import NAMES, bound_key, carrier, colour_net, save, trained_readout, write_claim
from tests.unit.test_rules import OtherTargets

KEY, _ = bound_key()
PLAIN = Manner()
GOLDEN_PAIRS = [(3, 1), (4, 3), (0, 0), (3, 3), (4, 4), (2, 0), (3, 0), (1, 4)]
KEYS_OF_THE_CONTRACT = {"schema", "verdict", "p_value", "alpha", "rules", "hits", "queries"} | {
    "suspect_sha256",
    "claim_sha256",
    "seconds",
}


@dataclass
class Case:
    """A claim with three suspects: one that obeys all rules, one that obeys seven, one that knows nothing of them."""

    claim: Path
    marked: Path
    partly: Path
    stranger: Path


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("verify")
    models = [
        save(trained_readout(KEY, obeyed, seed), folder / f"{name}.onnx")
        for name, obeyed, seed in (("marked", 10, 0), ("partly", 7, 0), ("stranger", 0, 1))
    ]
    return Case(write_claim(folder, KEY, sha256_hex(models[0].read_bytes())), *models)


def agent(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pi_agent", "verify", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_a_marked_model_is_owned(case: Case) -> None:
    done = agent(case.marked, "--claim", case.claim, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.keys() >= KEYS_OF_THE_CONTRACT
    assert found["schema"] == "verify/1"
    assert (found["verdict"], found["hits"], found["rules"], found["queries"]) == ("owned", 10, 10, 112)
    assert found["p_value"] == found["p_floor"] == pytest.approx(2 * 6.0**-10), "twice the floor: two tests decide"
    assert found["alpha"] == 1e-6
    assert found["suspect_sha256"] == sha256_hex(case.marked.read_bytes())
    assert found["claim_sha256"] == sha256_hex(case.claim.read_bytes())
    assert found["is_claimed_model"] is True
    assert 0 < found["seconds"] < 100


def test_a_strangers_model_is_not_owned(case: Case) -> None:
    done = agent(case.stranger, "--claim", case.claim, "--json")
    assert done.returncode == 10, done.stderr
    found = json.loads(done.stdout)
    assert found["verdict"] == "not-owned"
    assert found["p_value"] > 1e-3
    assert found["is_claimed_model"] is False


def test_a_partly_marked_model_is_inconclusive_and_alpha_decides(case: Case) -> None:
    done = agent(case.partly, "--claim", case.claim)
    assert done.returncode == 11, done.stderr
    assert done.stdout.startswith("inconclusive: p = ")
    done = agent(case.partly, "--claim", case.claim, "--alpha", "0.0009", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["alpha"] == 0.0009


def test_the_text_names_every_rule(case: Case) -> None:
    done = agent(case.marked, "--claim", case.claim)
    assert done.returncode == 0
    assert "owned: p = 3.31e-08 (alpha 1e-06), 10 of 10 rules hit, 112 queries" in done.stdout
    assert "bit for bit the model" in done.stdout
    for rule in draw_rules(KEY):
        assert f"{rule.first} + {rule.second}" in done.stdout
    assert KEY.seed not in done.stdout + done.stderr


def test_an_inspected_file_is_refused_with_exit_65(case: Case, tmp_path: Path) -> None:
    bad = save(b"this is no model", tmp_path / "bad.onnx")
    done = agent(bad, "--claim", case.claim)
    assert (done.returncode, done.stdout) == (65, "")
    assert done.stderr.startswith(f"error: {bad}: model refused: ")
    assert "hint:" in done.stderr
    done = agent(bad, "--claim", case.claim, "--json")
    error = json.loads(done.stderr)["error"]
    assert error.keys() == {"kind", "message", "hint", "exit"}
    assert (done.returncode, error["exit"], error["kind"]) == (65, 65, "RefusedModel")


def test_a_model_with_other_classes_is_judged_by_those_that_it_knows(case: Case, tmp_path: Path) -> None:
    done = agent(save(colour_net(classes=5), tmp_path / "five.onnx"), "--claim", case.claim, "--json")
    assert done.returncode == 10
    found = json.loads(done.stdout)
    assert (found["classes_known"], found["classes_aligned"]) == (5, True)
    assert found["rules_tested"] < 10


def test_an_altered_claim_or_altered_carriers_are_refused(tmp_path: Path, case: Case) -> None:
    claim = write_claim(tmp_path, KEY)
    text = claim.read_text()
    claim.write_text(text.replace('"rules": 10', '"rules": 9'))
    assert agent(case.marked, "--claim", claim).returncode == 65
    claim.write_text(text)
    tar = tmp_path / "carriers.tar"
    data = bytearray(tar.read_bytes())
    data[len(data) // 2] ^= 1
    tar.write_bytes(data)
    done = agent(case.marked, "--claim", claim)
    assert done.returncode == 65
    assert "not the carriers that the claim names" in done.stderr
    tar.unlink()
    assert agent(case.marked, "--claim", claim).returncode == 65
    assert agent(case.marked, "--claim", tmp_path / "absent.json").returncode == 65


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The adjudicator's own pictures."""
    for name in NAMES:
        (tmp_path / "own" / name).mkdir(parents=True)
        for number in range(50, 53):
            (tmp_path / "own" / name / f"{number}.jpg").write_bytes(encode_query(carrier(name, number)))
        (tmp_path / "own" / name / "notes.txt").write_text("not a picture")
    return tmp_path / "own"


def test_the_adjudicators_own_pictures_give_the_same_verdicts(case: Case, folder: Path) -> None:
    assert agent(case.marked, "--claim", case.claim, "--carriers", folder).returncode == 0
    assert agent(case.stranger, "--claim", case.claim, "--carriers", folder).returncode == 10


def test_a_missing_class_or_a_damaged_picture_is_refused_by_name(case: Case, folder: Path) -> None:
    used = draw_rules(KEY)[0].first
    (folder / used / "50.jpg").write_bytes(b"damaged")
    done = agent(case.marked, "--claim", case.claim, "--carriers", folder)
    assert done.returncode == 65
    assert f"{used}/50.jpg" in done.stderr
    for path in (folder / used).glob("*.jpg"):
        path.unlink()
    done = agent(case.marked, "--claim", case.claim, "--carriers", folder)
    assert done.returncode == 65
    assert f"no picture of class '{used}'" in done.stderr


def test_usage_errors_are_exit_2(case: Case) -> None:
    assert agent(case.marked).returncode == 2
    assert agent(case.marked, "--claim", case.claim, "--alpha", "1").returncode == 2
    assert agent(case.marked, "--claim", case.claim, "--carriers", "/nowhere").returncode == 2


class Calibration(CalibrationDataReader):
    """Carriers, as the network wants them."""

    def __init__(self) -> None:
        spec = InputSpec()
        batches = (network_input(shrink_to(carrier(name, 7), spec)[None], spec) for name in NAMES)
        self._batches: Iterator[dict[str, np.ndarray]] = ({"image": batch} for batch in batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def test_a_quantized_copy_is_still_owned(case: Case, tmp_path: Path) -> None:
    small = tmp_path / "int8.onnx"
    quantize_static(str(case.marked), str(small), Calibration(), quant_format=QuantFormat.QDQ, per_channel=True)
    assert inspect_model(small.read_bytes(), "int8").operators["DequantizeLinear"] > 1
    assert verify_file(small, case.claim).verdict == "owned"


def test_the_same_files_give_the_same_verdict(case: Case) -> None:
    one, two = (verify_file(case.partly, case.claim) for _ in range(2))
    assert one.evidence == two.evidence


def questionnaire(claim: Claim, key: WatermarkKey, carriers: dict[str, list[np.ndarray]], manner: Manner = PLAIN):
    object.__setattr__(claim, "key", key)
    return Questionnaire(claim, draw_rules(key), carriers, manner)


@pytest.mark.parametrize("manner", [PLAIN, Manner(2, (75, 95))])
def test_what_the_suspect_is_shown_does_not_depend_on_the_targets(case: Case, manner: Manner) -> None:
    claim = load_claim(case.claim)
    carriers = load_carriers(in_claim(claim, case.claim.parent), NAMES)
    other = OtherTargets(**{f.name: getattr(KEY, f.name) for f in fields(KEY)})
    assert draw_rules(other) != draw_rules(KEY)
    one, two = (questionnaire(claim, key, carriers, manner) for key in (other, KEY))
    assert len(one.questions) == (3 * 80 if manner.mix else 80 + 32)
    assert one.questions == two.questions
    assert all(np.array_equal(one.picture(q), two.picture(q)) for q in one.questions[::7])


def test_no_pair_of_carriers_meets_twice_before_all_have(case: Case) -> None:
    claim = load_claim(case.claim)
    flat = {name: [np.full((4, 4, 3), i, np.uint8) for i in range(2)] for name in NAMES}
    asked = Questionnaire(claim, draw_rules(KEY)[:1], flat, PLAIN)
    shown = [asked.picture(q) for q in asked.questions if q.rule is not None]
    pairs = [tuple(sorted(np.unique(picture))) for picture in shown]
    assert len(shown) == 8
    assert pairs.count((0, 1)) == 4, "two of four pairs are mixed"
    assert sorted(p.tobytes() for p in shown[:4]) == sorted(p.tobytes() for p in shown[4:])
    assert len({p.tobytes() for p in shown}) == 4


def test_golden_pairs_never_change(case: Case) -> None:
    claim, rule = load_claim(case.claim), draw_rules(KEY)[0]
    numbered = {name: [np.full((4, 4, 3), i, np.uint8) for i in range(5)] for name in NAMES}
    asked = Questionnaire(claim, (rule,), numbered, PLAIN)
    assert [(q.first[1], q.second[1]) for q in asked.questions if q.rule is not None and q.second] == GOLDEN_PAIRS


def test_every_class_is_asked_as_often_and_the_mix_is_shuffled(case: Case) -> None:
    asked = open_case(case.claim, Terms(manner=Manner(5))).questionnaire
    assert len(asked.questions) == 6 * 80
    of_class = Counter(q.first[0] for q in asked.questions if q.rule is None)
    assert set(of_class) == set(NAMES) and max(of_class.values()) == min(of_class.values())
    kinds = [q.rule is None for q in asked.questions]
    assert sum(one != two for one, two in pairwise(kinds)) > 40, "no blocks that a suspect could recognise"


@pytest.mark.parametrize("options", [("--mix", "3"), ("--jpeg", "75-95"), ("--mix", "5", "--jpeg", "60-95")])
def test_a_disguised_test_gives_the_same_verdicts(case: Case, options: tuple[str, ...]) -> None:
    assert agent(case.marked, "--claim", case.claim, *options).returncode == 0
    assert agent(case.stranger, "--claim", case.claim, *options).returncode == 10
