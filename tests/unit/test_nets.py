"""The RecycleMe network is exactly the one of the problem statement; the others are small, and usable like it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.manifest import InputSpec
from pi_agent.runtime.inspect import inspect_model
from tests.support_nets import CLASSES, CPU, coloured_set
from training_host.artifacts import load_network, save_model
from training_host.cli import cli
from training_host.jobs import int8_job
from training_host.nets.build import build_net
from training_host.nets.names import WIDTHS
from training_host.predictor import load_predictor
from training_host.training.evaluate import predict
from training_host.training.loop import Recipe
from training_host.training.supervised import train_classifier

OTHERS = ("resnet-small", "mobile-small")


def test_the_full_network_has_the_layers_and_parameters_of_the_original():
    net = build_net("recycleme", 12, seed=0)
    kinds = [type(m).__name__ for m in [*net.features, *net.head]]
    block = ["Conv2d", "BatchNorm2d", "MaxPool2d", "ReLU"]
    dense = ["Linear", "BatchNorm1d"]
    assert kinds == [
        *["Conv2d", "ReLU", "BatchNorm2d", "ReLU"],
        *block * 3,
        *["Flatten", *dense, "ReLU", *dense, "Dropout", "ReLU", "Linear"],
    ]
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [64, 64, 128, 128]
    assert convolutions[0].bias is None and convolutions[0].padding == (0, 0)
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == 667_020


def test_batch_norm_is_that_of_keras_without_scale():
    norms = [m for m in build_net("recycleme", 12, 0).modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert len(norms) == 6
    for norm in norms:
        assert norm.momentum == 0.01 and norm.eps == 1e-3
        assert not norm.weight.requires_grad and torch.equal(norm.weight, torch.ones_like(norm.weight))
        assert norm.bias.requires_grad


@pytest.mark.parametrize("arch", WIDTHS)
def test_every_architecture_maps_pictures_to_logits_and_is_decided_by_its_seed(arch):
    batch = torch.rand(3, 3, 64, 64)
    first, again, other = (build_net(arch, 5, seed).eval()(batch) for seed in (1, 1, 2))
    assert first.shape == (3, 5)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_an_unknown_architecture_is_refused_with_the_known_ones():
    with pytest.raises(RefusedInput) as caught:
        build_net("resnet", 5, 0)
    assert "recycleme" in caught.value.advice


def test_names_are_known_without_torch():
    code = "import sys, training_host.nets.names; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_commands_offer_every_architecture():
    shown = CliRunner().invoke(cli, ["train", "--help"]).output
    assert all(arch in "".join(shown.split()) for arch in WIDTHS)


@pytest.mark.parametrize("arch", OTHERS)
def test_the_others_are_small_and_of_another_kind(arch: str):
    net = build_net(arch, 12, 0)
    assert sum(p.numel() for p in net.parameters()) < 400_000
    assert all(p.requires_grad for p in net.parameters())
    grouped = any(m.groups == m.in_channels > 1 for m in net.modules() if isinstance(m, nn.Conv2d))
    assert grouped == (arch == "mobile-small")
    assert list(net.modules())[-1] is net.head  # tools that take networks apart look for the last layer there
    assert net.eval()(torch.rand(1, 3, 96, 96)).shape == (1, 12)


@pytest.mark.parametrize("arch", OTHERS)
def test_a_model_folder_of_another_architecture_is_trained_exported_inspected_quantised_and_loaded(
    arch: str, tmp_path: Path
):
    data, fresh = coloured_set(256, 1), coloured_set(80, 2)
    net = train_classifier(arch, data, Recipe(3, seed=1), CPU)
    expected = predict(net, fresh.images, CPU)
    assert (expected.argmax(1) == fresh.labels).mean() > 0.9
    manifest = save_model(tmp_path / "model", net, arch, CLASSES, InputSpec(), provenance={}, metrics={})
    assert (manifest.arch, manifest.width) == (arch, WIDTHS[arch])
    loaded, _ = load_network(tmp_path / "model")
    assert np.abs(predict(loaded, fresh.images, CPU) - expected).max() < 1e-5
    assert np.abs(load_predictor(tmp_path / "model").scores_of(fresh.images) - expected).max() < 1e-4
    int8_job(tmp_path / "model", data.images[:64], tmp_path / "int8")
    quantised = load_predictor(tmp_path / "int8").scores_of(fresh.images)
    assert (quantised.argmax(1) == expected.argmax(1)).mean() > 0.9
    for folder in ("model", "int8"):
        assert inspect_model((tmp_path / folder / "model.onnx").read_bytes(), arch).operators["Conv"] > 5
