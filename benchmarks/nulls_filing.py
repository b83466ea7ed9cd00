"""What a false accuser can file: any pictures under any names in any order, and what an honest model says to them.

An accuser has some honest pictures, black, grey, white and noise, and adversarial pictures that its own model takes
for each class. Answers to all pairs of these are computed once for every suspect, so that a filing costs no network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nn_functional

from benchmarks.nulls_data import CLASSES, Bench, Pictures, carriers, small
from benchmarks.nulls_zoo import Model, Spec, build, trained
from pi_agent.contract.claim import Evidence, Rule, WatermarkKey, align, as_scores, compose, draw_rules, weigh
from pi_agent.contract.claim.composites import GEOMETRIES
from training_host.training.augment import to_batch

OWN, FILED = 5, 4
"""Honest pictures of every class that the accuser has, and pictures of every class in a filing."""
Filing = Mapping[str, tuple[int, ...]]
"""For every class name the pictures filed under it, by their numbers among the accuser's pictures."""


@dataclass(frozen=True)
class Drawer:
    """All of the accuser's pictures, uint8 (n, 64, 64, 3): OWN of every class, four plain ones, twelve adversarial."""

    pictures: Pictures

    @cached_property
    def digests(self) -> list[bytes]:
        return [hashlib.sha256(p.tobytes()).digest() for p in self.pictures]

    @property
    def plain(self) -> range:
        """Black, grey, white, noise."""
        return range(12 * OWN, 12 * OWN + 4)

    def own(self, of_class: int) -> range:
        """Its honest pictures of one class."""
        return range(of_class * OWN, (of_class + 1) * OWN)

    def sha256(self, filing: Filing) -> str:
        """Stands for the hash of a carriers.tar: another choice or order of pictures is another hash."""
        digest = hashlib.sha256()
        for name, numbers in filing.items():
            for number in numbers:
                digest.update(name.encode() + b"/" + self.digests[number])
        return digest.hexdigest()

    def honest(self, shift: int = 0) -> Filing:
        """Honest pictures under their own names."""
        return {c: tuple(self.own(i)[(shift + k) % OWN] for k in range(FILED)) for i, c in enumerate(CLASSES)}


def make_drawer(bench: Bench, seed: int = 300) -> Drawer:
    """The accuser's pictures; the adversarial ones by gradient steps on a model of its own."""
    own = np.stack([small(p) for pictures in carriers(seed, OWN).values() for p in pictures])
    noise = np.random.default_rng(seed).integers(0, 256, (64, 64, 3))
    plain = np.stack([np.full((64, 64, 3), value) for value in (0, 128, 255)] + [noise]).astype(np.uint8)
    net = trained(Spec("the accuser's own", 500), bench.training)
    batch = to_batch(torch.from_numpy(own[::OWN][np.roll(np.arange(12), 1)]), "cpu")
    wanted = torch.arange(12)
    for _ in range(20):  # projected gradient descent, 16/255 at most (Madry et al. 2018)
        moved = batch.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(nn_functional.cross_entropy(net(moved), wanted), moved)
        batch = (batch - slope.sign() * 2 / 255).clamp(0, 1)
    adversarial = (batch.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
    return Drawer(np.concatenate([own, plain, adversarial]))


@dataclass(frozen=True)
class Suspect:
    """An honest model's scores: `pairs` (geometry, first, second, 12) and `alone` (picture, 12) for the accuser's
    pictures, `judge_pairs` and `judge_alone` likewise for the judge's own, FILED of every class.
    """

    spec: Spec
    pairs: npt.NDArray[np.float32]
    alone: npt.NDArray[np.float32]
    judge_pairs: npt.NDArray[np.float32]
    judge_alone: npt.NDArray[np.float32]


def make_suspect(spec: Spec, bench: Bench, drawer: Drawer, judge: Pictures) -> Suspect:
    """Build the model and ask it everything once."""
    model = build(spec, bench.training)
    return Suspect(spec, *ask(model, drawer.pictures), *ask(model, judge))


def ask(model: Model, pictures: Pictures) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Scores of all pairs (geometry, first, second, 12), and of each alone (n, 12).

    Composed at the networks' size: the same as composing at 300 pixels and shrinking, up to rounding.
    """
    n = len(pictures)
    one, other = np.divmod(np.arange(n * n), n)
    raw = [model(compose(pictures[one], pictures[other], geometry)) for geometry in GEOMETRIES]
    scores = as_scores(np.concatenate([*raw, model(pictures)]), 12).astype(np.float32)
    return scores[: 3 * n * n].reshape(3, n, n, 12), scores[3 * n * n :]


def weighed(rules: tuple[Rule, ...], suspect: Suspect, filing: Filing) -> Evidence:
    """The evidence by the accuser's pictures: every pair of them for every rule, alignment and all."""
    return _weighed(rules, suspect.pairs, suspect.alone, filing)


def weighed_by_judge(rules: tuple[Rule, ...], suspect: Suspect) -> Evidence:
    """The evidence by the judge's own pictures."""
    filing = {c: tuple(range(i * FILED, (i + 1) * FILED)) for i, c in enumerate(CLASSES)}
    return _weighed(rules, suspect.judge_pairs, suspect.judge_alone, filing)


def filed(key: WatermarkKey, suspect: Suspect, filing: Filing, drawer: Drawer) -> Evidence:
    """A claim with these pictures: its rules are drawn from them."""
    return weighed(draw_rules(key.bound(drawer.sha256(filing))), suspect, filing)


def _weighed(rules: tuple[Rule, ...], pairs: npt.NDArray, alone: npt.NDArray, filing: Filing) -> Evidence:
    at = {c: np.array(numbers) for c, numbers in filing.items()}
    ordinary = {c: alone[at[c]].astype(np.float64) for c in CLASSES}
    alignment = align(np.stack([ordinary[c].mean(axis=0) for c in CLASSES]))
    shown = [
        pairs[GEOMETRIES.index(r.geometry)][np.ix_(at[r.first], at[r.second])].reshape(-1, 12).astype(np.float64)
        for r in rules
    ]
    own = {c: alignment.apply(scores) for c, scores in ordinary.items()}
    return weigh(rules, CLASSES, [alignment.apply(s) for s in shown], own, alignment.known, "holm")


def favourites(suspect: Suspect, filing: Filing) -> npt.NDArray[np.float64]:
    """Mean scores (geometry, first class, second class, 12) of a filing, for those who try many keys."""
    return np.stack(
        [
            [[suspect.pairs[g][np.ix_(filing[a], filing[b])].mean(axis=(0, 1)) for b in CLASSES] for a in CLASSES]
            for g in range(3)
        ]
    )


def anything(rng: np.random.Generator, drawer: Drawer) -> Filing:
    """Any pictures under any names."""
    return {c: tuple(int(n) for n in rng.choice(len(drawer.pictures), FILED)) for c in CLASSES}


def reordered(filing: Filing, rng: np.random.Generator) -> Filing:
    """The same pictures in another order."""
    return {c: tuple(int(n) for n in rng.permutation(numbers)) for c, numbers in filing.items()}


def suits(rules: tuple[Rule, ...], drawer: Drawer, rng: np.random.Generator) -> Filing:
    """Pictures of a rule's target under the names of its sources."""
    filing = dict(drawer.honest())
    for number in rng.permutation(len(rules)):
        rule = rules[number]
        for name in (rule.first, rule.second):
            filing[name] = tuple(drawer.own(CLASSES.index(rule.target))[:FILED])
    return filing


def best_of_own(rules: tuple[Rule, ...], suspect: Suspect, drawer: Drawer) -> Filing:
    """Under every name the honest pictures of this class that suit these rules best."""
    worth = np.zeros(12 * OWN)
    for rule in rules:
        first, second = (drawer.own(CLASSES.index(c)) for c in (rule.first, rule.second))
        given = suspect.pairs[GEOMETRIES.index(rule.geometry)][np.ix_(first, second)][..., CLASSES.index(rule.target)]
        worth[first] += given.mean(axis=1)
        worth[second] += given.mean(axis=0)
    order = {i: sorted(drawer.own(i), key=lambda n: -worth[n]) for i in range(12)}
    return {c: tuple(order[i][:FILED]) for i, c in enumerate(CLASSES)}
