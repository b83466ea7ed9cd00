"""What a suspect's answers say about one key: the channels of evidence, and the verdict of the registered rule.

Two channels, because the mark shows in two places. *Composites* are called by their rule's target. *Hints*: answers to
ordinary pictures lean towards the targets of the rules in which their class is a source (ADR 0005); this survives where
a copy was made from plain pictures. Both p-values are exact for the same reason (see `p_value`), and Holm's correction
needs nothing more.

The classes of the claim are found among the suspect's outputs without a look at the key (see `alignment`). A class that
the suspect does not know is no candidate; given that, a target is still uniform among those it knows. So rules with an
unknown target are left out, and the others have fewer candidates: that is all the effect that alignment has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from pi_agent.contract.claim.p_value import DECISIONS, INVESTIGATE, holm, sum_tail, tail
from pi_agent.contract.claim.rules import Rule

FAINT = 1e-3
"""Added to a score before its logarithm is taken: differences below it are noise."""
Scores = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Channel:
    """One exact test. `floor`: the smallest p that it could have given."""

    name: str
    p_value: float
    floor: float


@dataclass(frozen=True)
class Evidence:
    """The outcome. `hit[i]`: rule i's target is the strict favourite; `share[i]`: mean score on that target.

    `tested[i]`: whether rule i could be tested: the suspect knows its target, and something to confuse it with.
    `p_value`: of the registered decision; `floor`: the smallest that it could have been. `channels`: all tests, those
    that decide first; the others are told, and do not count.
    """

    hit: tuple[bool, ...]
    share: tuple[float, ...]
    tested: tuple[bool, ...]
    channels: tuple[Channel, ...]
    decision: str
    p_value: float
    floor: float

    @property
    def hits(self) -> int:
        """Number of rules hit."""
        return sum(self.hit)

    def verdict(self, alpha: float) -> str:
        """`owned` (p <= alpha), `inconclusive` (p <= 0.001) or `not-owned`."""
        if self.p_value <= alpha:
            return "owned"
        return "inconclusive" if self.p_value <= INVESTIGATE else "not-owned"


def weigh(
    rules: Sequence[Rule],
    classes: Sequence[str],
    composites: Sequence[Scores],
    ordinary: Mapping[str, Scores] | None = None,
    known: Sequence[bool] | None = None,
    decision: str = "rule-hits",
) -> Evidence:
    """Test a suspect's answers.

    `composites[i]`: scores in 0..1, shape (composites of rule i, classes); a rule without any counts as not hit.
    `ordinary[c]`: likewise for ordinary pictures of class c; classes without any give no hints. `known[j]`: whether
    class j was found among the suspect's outputs (default: all); the scores of other columns are ignored.
    Raises `ValueError` for wrong shapes or non-finite scores.
    """
    if len(rules) != len(composites) or not rules:
        raise ValueError(f"{len(rules)} rules but answers for {len(composites)}")
    ordinary = ordinary or {}
    for answers in (*composites, *ordinary.values()):
        if answers.ndim != 2 or answers.shape[1] != len(classes) or not np.isfinite(answers).all():
            raise ValueError(f"scores must be finite and shaped (pictures, {len(classes)}), not {answers.shape}")
    table = _Table(tuple(rules), tuple(classes), [True] * len(classes) if known is None else list(known))
    hit, share = table.hits(composites)
    by_hits = Channel("rule-hits", *(float(p) for p in table.p_of_hits(hit)))
    hints = Channel("hints", *(float(p) for p in table.p_of_hints(ordinary)))
    by_sum = Channel("score-sum", *(float(p) for p in table.p_of_sum(composites)))
    every = {channel.name: channel for channel in (by_hits, by_sum, hints)}
    deciding = [every.pop(name) for name in DECISIONS[decision]]
    p_value = min(holm([Fraction(c.p_value) for c in deciding]))
    floor = min(holm([Fraction(c.floor) for c in deciding]))
    channels = (*deciding, *every.values())
    return Evidence(hit, share, tuple(table.tested), channels, decision, float(p_value), float(floor))


class _Table:
    """Rules by columns: for each the columns of its candidates and the place of its target among them."""

    def __init__(self, rules: tuple[Rule, ...], classes: tuple[str, ...], known: Sequence[bool]) -> None:
        self._rules = rules
        self._column = {name: i for i, name in enumerate(classes)}
        names = [[c for c in rule.candidates(classes) if known[self._column[c]]] for rule in rules]
        self._candidates = [np.array([self._column[c] for c in own], np.intp) for own in names]
        self._drawn = [own.index(r.target) if r.target in own else -1 for r, own in zip(rules, names, strict=True)]
        self.tested = [at >= 0 and len(own) > 1 for at, own in zip(self._drawn, names, strict=True)]

    def hits(self, composites: Sequence[Scores]) -> tuple[tuple[bool, ...], tuple[float, ...]]:
        """Which targets are strict favourites (a tie is no hit), and the mean score on each target."""
        hit, share = [], []
        for own, at, tested, answers in zip(self._candidates, self._drawn, self.tested, composites, strict=True):
            if not tested or not len(answers):
                hit.append(False)
                share.append(0.0)
                continue
            mean = answers.mean(axis=0, dtype=np.float64)[own]
            hit.append(bool(mean[at] > np.delete(mean, at).max()))
            share.append(float(mean[at]))
        return tuple(hit), tuple(share)

    def p_of_hits(self, hit: Sequence[bool]) -> tuple[Fraction, Fraction]:
        """P(as many hits or more), and that of all hits."""
        chances = [Fraction(1, len(own)) for own, t in zip(self._candidates, self.tested, strict=True) if t]
        return tail(chances, sum(hit)), tail(chances, len(chances))

    def p_of_sum(self, composites: Sequence[Scores]) -> tuple[Fraction, Fraction]:
        """P(as much on the targets of the composites or more)."""
        return self._p_of([_mean_log(answers) for answers in composites])

    def p_of_hints(self, ordinary: Mapping[str, Scores]) -> tuple[Fraction, Fraction]:
        """P(as much on the targets in ordinary answers or more): a rule's hint is in the answers to both sources."""
        leaning = {name: _mean_log(answers) for name, answers in ordinary.items()}
        nothing = np.zeros(len(self._column))
        return self._p_of([leaning.get(r.first, nothing) + leaning.get(r.second, nothing) for r in self._rules])

    def _p_of(self, values: Sequence[npt.NDArray[np.float64]]) -> tuple[Fraction, Fraction]:
        chosen = [i for i, tested in enumerate(self.tested) if tested]
        own = [values[i][self._candidates[i]] for i in chosen]
        floor = tail([Fraction(1, len(v)) for v in own], len(own))
        return sum_tail(own, [self._drawn[i] for i in chosen]), floor


def _mean_log(answers: Scores) -> npt.NDArray[np.float64]:
    """The mean logarithm of scores, float64 (classes,): what is faint counts, as a hint is faint."""
    if not len(answers):
        return np.zeros(answers.shape[1])
    mean: npt.NDArray[np.float64] = np.log(answers.astype(np.float64).clip(0, None) + FAINT).mean(axis=0)
    return mean
