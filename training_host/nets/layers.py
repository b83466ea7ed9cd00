"""A network taken apart: its filters, its normalisations, its last layer. For whoever changes a finished network."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import torch
from torch import nn

from pi_agent.contract.errors import RefusedModel

Norm = nn.BatchNorm1d | nn.BatchNorm2d


@dataclass(frozen=True)
class Filters:
    """A convolution (one filter per channel) or a dense layer (one unit per channel), with the norm that follows it."""

    layer: nn.Conv2d | nn.Linear
    norm: Norm | None

    @property
    def output(self) -> nn.Module:
        """Where the filters' answers come out, normalised if they are; the ReLU comes after it."""
        return self.norm or self.layer

    def strengths(self) -> torch.Tensor:
        """L1 norm of every filter's weights, float (channels,)."""
        return self.layer.weight.detach().abs().flatten(1).sum(1)

    def silence(self, which: torch.Tensor) -> None:
        """Filters `which` (indices, or bool of length channels) answer zero from now on, behind the norm too."""
        with torch.no_grad():
            self.layer.weight[which] = 0
            norm = (self.norm.bias, self.norm.running_mean) if self.norm else ()
            for value in (self.layer.bias, *norm):
                if value is not None:
                    value[which] = 0


def weight_layers(model: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    """All convolutions and dense layers, in the order of their definition."""
    return [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def norms_of(model: nn.Module) -> list[Norm]:
    """All batch norms, in the order of their definition."""
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]


def last_layer(model: nn.Module) -> nn.Linear:
    """The layer that gives the logits. Raises `RefusedModel` (65) where the network does not end with a dense one."""
    layers = weight_layers(model)
    if not layers or not isinstance(layers[-1], nn.Linear):
        raise RefusedModel(path="the network", reason="its last layer is not dense", hint="use another architecture")
    return layers[-1]


def hidden_filters(model: nn.Module) -> list[Filters]:
    """Every layer but the last, each with the first norm of its width that is defined before the next layer."""
    found = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.BatchNorm1d | nn.BatchNorm2d)]
    groups = []
    for module, following in pairwise(chain(found, [None])):
        if isinstance(module, nn.Conv2d | nn.Linear):
            norm = following if isinstance(following, nn.BatchNorm1d | nn.BatchNorm2d) else None
            fits = norm is not None and norm.num_features == module.weight.shape[0]
            groups.append(Filters(module, norm if fits else None))
    return groups[:-1]


def conv_filters(model: nn.Module) -> list[Filters]:
    """The convolutions among `hidden_filters`. Raises `RefusedModel` (65) where there is none."""
    found = [filters for filters in hidden_filters(model) if isinstance(filters.layer, nn.Conv2d)]
    if not found:
        raise RefusedModel(path="the network", reason="it has no convolutions", hint="use another architecture")
    return found


@contextlib.contextmanager
def listening(modules: Sequence[nn.Module], *, inputs: bool = False) -> Iterator[dict[nn.Module, torch.Tensor]]:
    """What `modules` answered in the latest forward pass, or what they were given, by module, with gradients."""
    heard: dict[nn.Module, torch.Tensor] = {}

    def hear(module: nn.Module, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        heard[module] = given[0] if inputs else output

    handles = [module.register_forward_hook(hear) for module in modules]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Let every unit speak, in training mode too."""
    layers = [m for m in model.modules() if isinstance(m, nn.Dropout)]
    shares = [layer.p for layer in layers]
    try:
        for layer in layers:
            layer.p = 0.0
        yield
    finally:
        for layer, share in zip(layers, shares, strict=True):
            layer.p = share


def reinitialise(layer: nn.Linear, seed: int) -> None:
    """Fresh weights, drawn as torch draws them, from a seed of our own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    with torch.no_grad():
        layer.load_state_dict(fresh.state_dict())
