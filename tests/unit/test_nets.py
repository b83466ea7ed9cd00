"""The RecycleMe network is exactly the one of the problem statement."""

import pytest
import torch
from torch import nn

from pi_agent.contract.errors import RefusedInput
from training_host.nets.build import build_net
from training_host.nets.names import WIDTHS


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
