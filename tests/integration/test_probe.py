"""From probes to a substitute that makes pictures small as its oracle does, through a real server and a real agent."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pi_agent.contract.manifest import load_manifest
from pi_agent.contract.output import run
from pi_agent.prepare import encode_query
from tests.support_agent import Pi
from tests.support_server import serving
from training_host.cli import cli
from training_host.data import waste

VICTIM = Path(__file__).resolve().parents[2] / "models" / "victim"


def host(capsys: pytest.CaptureFixture[str], *line: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = run(cli, "train-host", [str(part) for part in line])
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return code, said.out, said.err


def test_an_oracles_filter_is_found_with_eight_queries_and_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    oracle, pool, probes = tmp_path / "oracle", tmp_path / "pool", tmp_path / "probes.tar"
    shutil.copytree(VICTIM, oracle)
    manifest = json.loads((oracle / "manifest.json").read_text())
    manifest["input"]["resize"] = "bicubic"
    (oracle / "manifest.json").write_text(json.dumps(manifest))
    pool.mkdir()
    for number in range(3):
        pixels = waste.render(waste.CLASSES[number], np.random.default_rng([3, number]))
        (pool / f"{number}.jpg").write_bytes(encode_query(pixels))

    make = ("probe", "make", "--pool", pool, "--out", probes, "--pictures", 1)
    code, said, _ = host(capsys, *make, "--json")
    assert code == 0 and json.loads(said)["queries"] == 8
    before = probes.read_bytes()
    assert host(capsys, *make)[0] == 73 and probes.read_bytes() == before

    pi, night = Pi(tmp_path / "pi"), tmp_path / "night.tar"
    with serving(oracle, "--quota", 8) as server:
        pi.init(server.url, 8)
        assert pi.done("add", probes)["added"] == 8
        assert pi.done("collect")["settled"] == 8
    assert pi.done("export", night)["images"] == 8
    code, said, _ = host(capsys, "probe", "judge", night, "--probes", probes, "--json")
    assert code == 0 and json.loads(said)["filter"] == "bicubic"
    code, said, _ = host(capsys, "probe", "judge", night, "--probes", probes)
    assert code == 0 and "give --resize bicubic" in said

    trained = ("--arch", "recycleme-narrow", "--epochs", 1)
    assert host(capsys, "distill", night, *trained, "--resize", "bicubic", "--out", tmp_path / "copy")[0] == 0
    assert load_manifest(tmp_path / "copy").input.resize == "bicubic"
    going_on = ("distill", night, *trained, "--start", tmp_path / "copy")
    assert host(capsys, *going_on, "--out", tmp_path / "next")[0] == 0
    assert load_manifest(tmp_path / "next").input.resize == "bicubic"
    code, _, error = host(capsys, *going_on, "--resize", "area", "--out", tmp_path / "other")
    assert code == 65 and "bicubic, not area" in error and not (tmp_path / "other").exists()
