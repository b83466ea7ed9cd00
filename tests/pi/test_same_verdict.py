"""The same verdict on a Raspberry Pi as on the host, to the last digit."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

MODELS = Path(__file__).resolve().parents[2] / "models"


def verify(python: str, model: str) -> dict[str, object]:
    command = [python, "-m", "pi_agent", "verify", MODELS / model / "model.onnx", "--claim", MODELS / "claim.json"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=600, cwd=MODELS.parent)
    result: dict[str, object] = json.loads(done.stdout)
    assert result.pop("seconds")
    return result | {"exit": done.returncode}


def test_this_is_an_arm_processor_and_the_host_is_not() -> None:
    ask = [os.environ["MAGPIE_HOST_PYTHON"], "-c", "import platform; print(platform.machine())"]
    host = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    assert (platform.machine(), host) == ("aarch64", "x86_64")


@pytest.mark.parametrize(
    ("model", "verdict"), [("victim", "owned"), ("substitute", "inconclusive"), ("independent", "not-owned")]
)
def test_the_verdict_is_the_hosts_to_the_last_digit(model: str, verdict: str) -> None:
    here = verify(sys.executable, model)
    assert here["verdict"] == verdict
    assert here == verify(os.environ["MAGPIE_HOST_PYTHON"], model)
