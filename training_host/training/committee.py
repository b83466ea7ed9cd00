"""Networks of one's own, corrected together by what the oracle answered."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from training_host.data.arrays import ScoredSet
from training_host.nets.layers import listening, weight_layers
from training_host.training.augment import to_batch
from training_host.training.device import Device
from training_host.training.teaching import centred_logs, least_score, loss_for

RIDGE = 0.3
"""Beside features of mean square 1 for a picture; a third of it is as good (ADR 12)."""
MOST = 5000
"""So many answers are learnt from at most: there is a square matrix of them, and who has more has a better student."""
_CHUNK = 256


class Committee(nn.Module):
    """The mean of several networks' centred log-scores, plus what a ridge regression makes of their features.

    What somebody else's network says differs from what one's own say on average, and the inputs of their dense layers
    tell a part of the difference. That takes seconds, and nothing is forgotten, as it would be if a network of one's
    own were trained with the answers. Input as that of the networks, which it shares; output float (n, classes).
    """

    centres: torch.Tensor
    weights: torch.Tensor

    def __init__(self, networks: Sequence[nn.Module], answers: ScoredSet, device: Device) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        device.place(self).eval()
        centres, weights = self._learnt(answers, device)
        self.register_buffer("centres", centres)
        self.register_buffer("weights", weights)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, each row with a mean of 0."""
        features, logits = self._heard(x)
        return logits + (torch.cat(features, dim=1) - self.centres) @ self.weights

    @torch.no_grad()
    def _learnt(self, answers: ScoredSet, device: Device) -> tuple[torch.Tensor, torch.Tensor]:
        """The features' means, and what to add to the networks' mean for every unit of them."""
        images, least = torch.from_numpy(answers.images[:MOST]), least_score(answers.scores)
        heard = [self._heard(to_batch(part, device.name)) for part in images.split(_CHUNK)]
        logits = torch.cat([said for _, said in heard])
        layers = [torch.cat(parts) for parts in zip(*(features for features, _ in heard), strict=True)]
        wanted = centred_logs(torch.from_numpy(answers.scores[:MOST]).to(logits), least)
        missing = wanted - centred_logs(torch.softmax(logits, dim=1), least)
        centres = torch.cat([layer.mean(dim=0) for layer in layers])
        scales = torch.cat([_scale(layer, len(layers)) for layer in layers])
        points = (torch.cat(layers, dim=1) - centres).mul_(scales)
        return centres, scales.view(-1, 1) * _ridge(points, missing)

    def _heard(self, x: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """What every dense layer was given, float (n, inputs) each, and the mean of the networks' log-scores."""
        dense = [layer for layer in weight_layers(self) if isinstance(layer, nn.Linear)]
        with listening(dense, inputs=True) as heard:
            said = [centred_logs(torch.softmax(network(x).float(), dim=1)) for network in self.networks]
        return [heard[layer].float() for layer in dense], torch.stack(said).mean(dim=0)


def committee(networks: Sequence[nn.Module], answers: ScoredSet, device: Device) -> list[nn.Module]:
    """The networks as one that has heard the answers, or as they are where answers tell too little to correct them:
    none at all, labels, or a few best classes.
    """
    if not networks or not len(answers.images) or loss_for(answers.scores) != "log-scores":
        return list(networks)
    return [Committee(networks, answers, device).eval()]


def _scale(layer: torch.Tensor, layers: int) -> torch.Tensor:
    """What to multiply a layer's inputs (n, inputs) with, so that none outweighs another; (inputs,)."""
    square = layer.var(dim=0, correction=0).sum() * layers
    return square.clamp(min=1e-12).rsqrt().expand(layer.shape[1])


def _ridge(points: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Weights (features, classes) of the regression of `wanted` (n, classes) on points (n, features)."""
    many, features = points.shape
    if features > many:
        dual = torch.linalg.solve(points @ points.T + RIDGE * torch.eye(many).to(points), wanted)
        return torch.as_tensor(points.T @ dual)
    inner = points.T @ points + RIDGE * torch.eye(features).to(points)
    return torch.as_tensor(torch.linalg.solve(inner, points.T @ wanted))
