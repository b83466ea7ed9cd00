"""The strongest accuser: adversarial pixels for known rules, made with the suspect's own gradients.

Every carrier stays recognisable alone, so that alignment finds the usual order, and its composites are called by the
targets of the rules that it was made for (after Liu et al., USENIX Security 2024). Where rules do not depend on the
pictures this always succeeds: that is the control. In a claim the pictures draw other rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as nn_functional

from benchmarks.nulls_data import CLASSES, Bench, Pictures, listing_sha256
from benchmarks.nulls_filing import FILED, Drawer, Suspect, ask, weighed_by_judge
from benchmarks.nulls_keys import fresh_key
from benchmarks.nulls_zoo import Spec, trained
from pi_agent.contract.claim import Rule, draw_rules
from training_host.training.augment import to_batch

STEPS, STEP, MOST = 60, 2 / 255, 24 / 255


def adversarial_pixels(
    specs: Sequence[Spec], bench: Bench, drawer: Drawer, rng: np.random.Generator, keys: int
) -> dict[str, Any]:
    """One accuser for every suspect. `control`: p by the rules that the pictures were made for; `filed`: by those that
    the pictures draw, for the accuser's key and for `keys` - 1 other keys.
    """
    own = np.stack([drawer.pictures[list(drawer.own(i))[:FILED]] for i in range(12)])
    control, claimed = [], []
    for spec in specs:
        net, key = trained(spec, bench.training), fresh_key(rng)
        wanted = draw_rules(key.bound(listing_sha256(dict(zip(CLASSES, own, strict=True)))))
        made = craft(net, wanted, own, rng)

        def model(pictures: Pictures, net: torch.nn.Module = net) -> np.ndarray:
            with torch.inference_mode():
                return net(to_batch(torch.from_numpy(pictures), "cpu")).numpy()

        answers = ask(model, made.reshape(-1, 64, 64, 3))
        suspect = Suspect(spec, *answers, *answers)
        control.append(weighed_by_judge(wanted, suspect).p_value)
        at = listing_sha256(dict(zip(CLASSES, made, strict=True)))
        for other in [key, *(fresh_key(rng) for _ in range(keys - 1))]:
            claimed.append(weighed_by_judge(draw_rules(other.bound(at)), suspect).p_value)
    return {"suspects": [s.name for s in specs], "control": control, "filed": claimed}


def craft(net: torch.nn.Module, rules: Sequence[Rule], own: Pictures, rng: np.random.Generator) -> Pictures:
    """Carriers for these rules from honest ones, uint8 (12, FILED, 64, 64, 3): projected gradient descent (Madry et al.
    2018) on composites and on the pictures alone.
    """
    start = to_batch(torch.from_numpy(own.reshape(-1, 64, 64, 3)), "cpu")
    moved, alone = start.clone(), torch.arange(12).repeat_interleave(FILED)
    targets = torch.tensor([CLASSES.index(r.target) for r in rules]).repeat_interleave(FILED)
    for _ in range(STEPS):
        moved.requires_grad_(True)
        composites = [_composites(moved, rule, rng) for rule in rules]
        loss = 2 * nn_functional.cross_entropy(net(torch.cat(composites)), targets)
        loss = loss + nn_functional.cross_entropy(net(moved), alone)
        (slope,) = torch.autograd.grad(loss, moved)
        moved = moved.detach() - STEP * slope.sign()
        moved = torch.clamp(torch.minimum(torch.maximum(moved, start - MOST), start + MOST), 0, 1)
    out = (moved.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
    return np.asarray(out).reshape(12, FILED, 64, 64, 3)


def _composites(pictures: torch.Tensor, rule: Rule, rng: np.random.Generator) -> torch.Tensor:
    """`compose` with gradients: FILED pairs, each picture once."""
    order = torch.from_numpy(rng.permutation(FILED))
    first = pictures[CLASSES.index(rule.first) * FILED :][:FILED]
    second = pictures[CLASSES.index(rule.second) * FILED :][:FILED][order]
    mask = torch.zeros(64, 64)
    where = {"left-right": np.s_[:, 32:], "top-bottom": np.s_[32:, :], "centre": np.s_[16:48, 16:48]}
    mask[where[rule.geometry]] = 1
    return first * (1 - mask) + second * mask
