"""Model folders: written whole, exported with parity, refused when anything in them was changed."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pi_agent.contract.errors import CannotCreate, RefusedModel
from pi_agent.contract.manifest import InputSpec, load_manifest
from pi_agent.runtime.inspect import inspect_model
from training_host.artifacts import load_network, save_model
from training_host.errors import ParityError
from training_host.export.onnx import check_parity, to_onnx
from training_host.jobs import check_output, int8_job
from training_host.nets.build import build_net
from training_host.predictor import load_predictor
from training_host.training.device import Device
from training_host.training.evaluate import predict

CLASSES = ("a", "b", "c", "d")
PICTURES = np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "victim"
    net = build_net("recycleme-narrow", 4, seed=3)
    save_model(path, net, "recycleme-narrow", CLASSES, InputSpec(), provenance={"x": 1}, metrics={"y": 2})
    return path


def test_torch_safetensors_and_onnx_of_a_folder_agree(folder: Path):
    net, manifest = load_network(folder)
    assert manifest.classes == CLASSES and manifest.provenance["x"] == 1 and manifest.width == 16
    expected = predict(net, PICTURES, Device("cpu", False))
    assert np.abs(load_predictor(folder).scores_of(PICTURES) - expected).max() < 1e-4
    assert {p.name for p in folder.iterdir()} == {"model.onnx", "model.safetensors", "manifest.json"}


def test_int8_agrees_mostly_and_passes_the_agents_inspection(folder: Path, tmp_path: Path):
    manifest = int8_job(folder, PICTURES, tmp_path / "int8")
    quantised = load_predictor(tmp_path / "int8").scores_of(PICTURES)
    exact = load_predictor(folder).scores_of(PICTURES)
    assert np.abs(quantised - exact).mean() < 0.05
    data = (tmp_path / "int8" / "model.onnx").read_bytes()
    assert len(data) < 0.45 * (folder / "model.onnx").stat().st_size
    assert inspect_model(data, "int8").operators["QuantizeLinear"] > 0
    assert manifest.provenance["quantised_from"] == load_manifest(folder).onnx_sha256


def test_parity_is_really_checked():
    net = torch.nn.Sequential(build_net("recycleme-narrow", 4, 0).eval(), torch.nn.Softmax(1))
    other = to_onnx(build_net("recycleme-narrow", 4, 1), InputSpec())
    with pytest.raises(ParityError):
        check_parity(net, other, InputSpec())


@pytest.mark.parametrize("name", ["model.onnx", "model.safetensors"])
def test_a_changed_file_is_refused(folder: Path, tmp_path: Path, name: str):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    data = bytearray((tmp_path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / name).write_bytes(data)
    with pytest.raises(RefusedModel, match="manifest"):
        (load_predictor if name.endswith("onnx") else load_network)(tmp_path)


@pytest.mark.parametrize("change", [{"classes": ["a"]}, {"opset": "18"}, {"colour": 1}, {"schema": "model/9"}])
def test_a_manifest_that_makes_no_sense_is_refused_by_its_key(folder: Path, tmp_path: Path, change: dict):
    content = json.loads((folder / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**content, **change}))
    with pytest.raises(RefusedModel) as caught:
        load_manifest(tmp_path)
    assert caught.value.exit_code == 65


def test_a_finished_model_is_not_overwritten(folder: Path):
    with pytest.raises(CannotCreate):
        check_output(folder)


def test_an_output_is_checked_and_not_made(tmp_path: Path):
    assert check_output(tmp_path / "a" / "b") == tmp_path / "a" / "b" and not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for place in ("file", "file/deeper", "dangling", "dangling/deeper"):
        with pytest.raises(CannotCreate, match="no folder"):
            check_output(tmp_path / place)


def test_where_nobody_may_write_that_is_said_before_the_work(tmp_path: Path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    places, refused = (closed, closed / "new", closed / "new" / "deeper"), 0
    child = os.fork()
    if not child:
        try:
            if not os.getuid():
                os.setuid(65534)  # root may write everywhere
            for place in places:
                try:
                    check_output(place)
                except CannotCreate:
                    refused += 1
        finally:
            os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == len(places)
