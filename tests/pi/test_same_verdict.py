"""The same verdict on a Raspberry Pi as on the host: to the last digit in float32, and in the forms that Pis run."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.signed import new_signer, parse_signed

MODELS = Path(__file__).resolve().parents[2] / "models"
HOST = os.environ["MAGPIE_HOST_PYTHON"]
SHAPES = ("uint8 NHWC", "fp16", "int8 dynamic", "int8 QDQ per channel")


def verify(python: str, model: Path, claim: Path) -> dict[str, object]:
    command = [python, "-m", "pi_agent", "verify", str(model), "--claim", str(claim), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=MODELS.parent)
    assert done.returncode in (0, 10, 11), done.stderr
    result: dict[str, object] = json.loads(done.stdout)
    assert result.pop("seconds")
    return result | {"exit": done.returncode}


def test_this_is_an_arm_processor_and_the_host_is_not() -> None:
    ask = [HOST, "-c", "import platform; print(platform.machine())"]
    host = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    assert (platform.machine(), host) == ("aarch64", "x86_64")


def test_what_is_signed_here_is_checked_there_and_altered_bytes_are_noticed(tmp_path: Path) -> None:
    document = new_signer().document({"schema": "test/1", "made_on": platform.machine()})
    (tmp_path / "signed.json").write_bytes(document)
    code = "import sys; from pi_agent.contract.signed import read_signed; from pathlib import Path; "
    code += "print(read_signed(Path(sys.argv[1]), 'test/1')[0]['made_on'])"
    done = subprocess.run(
        [HOST, "-c", code, tmp_path / "signed.json"], capture_output=True, text=True, cwd=MODELS.parent
    )
    assert done.stdout == "aarch64\n", done.stderr
    with pytest.raises(RefusedInput, match="signature does not fit"):
        parse_signed(document.replace(b"aarch64", b"armv7l2"), "altered")


@pytest.mark.parametrize(
    ("model", "verdict"), [("victim", "owned"), ("substitute", "owned"), ("independent", "not-owned")]
)
def test_the_verdict_is_the_hosts_to_the_last_digit(model: str, verdict: str) -> None:
    here = verify(sys.executable, MODELS / model / "model.onnx", MODELS / "claim.json")
    assert here["verdict"] == verdict
    assert here == verify(HOST, MODELS / model / "model.onnx", MODELS / "claim.json")


@pytest.fixture(scope="module")
def claim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The claim on a marked model, and four shapes of it beside it, made by the host: an emulator takes minutes."""
    folder = tmp_path_factory.mktemp("shapes")
    code = (
        "import sys; from tests.integration.test_same_verdict_shapes import write_shapes; write_shapes(*sys.argv[1:])"
    )
    subprocess.run([HOST, "-c", code, str(folder), *SHAPES], check=True, timeout=600, cwd=MODELS.parent)
    return folder / "claim.json"


@pytest.mark.parametrize("number", range(len(SHAPES)), ids=SHAPES)
def test_a_marked_model_in_the_forms_that_pis_run_is_owned_here_and_there(number: int, claim: Path) -> None:
    suspect = claim.parent / f"{number}.onnx"
    here, there = (verify(python, suspect, claim) for python in (sys.executable, HOST))
    assert here["exit"] == there["exit"] == 0
    told = ("verdict", "hits", "rules_tested", "queries", "suspect_sha256", "preparation")
    assert {key: here[key] for key in told} == {key: there[key] for key in told}
    assert (here["verdict"], here["hits"]) == ("owned", here["rules"])
    assert here["p_value"] == pytest.approx(there["p_value"])
