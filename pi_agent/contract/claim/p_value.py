"""The exact key-randomisation test: how likely is it that a stranger's model obeys this key by chance?

Why not count single triggers? All triggers of one rule share sources, geometry and target, so they are one experiment,
not 32: a model that happens to call such composites "trash" would pass a binomial over triggers with any p one likes,
and label bias makes it worse. Here each *rule* is one trial. Its target was drawn uniformly among `m` candidates,
independently of all that the suspect was shown, so whatever the suspect answers, and however biased it is, the chance
that its favourite candidate is the keyed one is at most 1/m. No reference model and no assumption about images enters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from pi_agent.contract.claim.rules import Rule

INVESTIGATE = 1e-3
"""Between the claim's alpha and this the verdict is "inconclusive": worth a closer look, not a proof."""


@dataclass(frozen=True)
class Evidence:
    """Outcome of the test. `hit[i]`: rule i's target is the strict favourite; `share[i]`: mean score on that target."""

    hit: tuple[bool, ...]
    share: tuple[float, ...]
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


def key_randomisation_test(
    rules: Sequence[Rule], classes: tuple[str, ...], scores: Sequence[npt.NDArray[np.floating]]
) -> Evidence:
    """Test a suspect's answers. `scores[i]`: shape (composites of rule i, classes), on any scale a mean makes sense on.

    A rule is hit when its target's mean score strictly exceeds that of every other candidate; a tie is no hit. The
    p-value is P(hits >= observed) when every rule is hit with probability 1/candidates, computed in exact fractions
    and rounded once; `floor` is the smallest p the claim can ever give. Raises `ValueError` for wrong shapes or
    non-finite scores.
    """
    if len(rules) != len(scores) or not rules:
        raise ValueError(f"{len(rules)} rules but answers for {len(scores)}")
    column = {name: i for i, name in enumerate(classes)}
    hit, share, chances = [], [], []
    for rule, answers in zip(rules, scores, strict=True):
        if answers.ndim != 2 or answers.shape[1] != len(classes) or not len(answers) or not np.isfinite(answers).all():
            raise ValueError(f"scores must be finite and shaped (composites, {len(classes)}), not {answers.shape}")
        mean = answers.mean(axis=0, dtype=np.float64)
        candidates = rule.candidates(classes)
        target = mean[column[rule.target]]
        hit.append(all(target > mean[column[c]] for c in candidates if c != rule.target))
        share.append(float(target))
        chances.append(Fraction(1, len(candidates)))
    return Evidence(tuple(hit), tuple(share), float(tail(chances, sum(hit))), float(tail(chances, len(chances))))


def tail(chances: Sequence[Fraction], hits: int) -> Fraction:
    """P(at least `hits` successes) of independent trials with the given chances, by exact convolution."""
    distribution = [Fraction(1)]
    for chance in chances:
        shifted = [Fraction(0), *(p * chance for p in distribution)]
        stayed = [*(p * (1 - chance) for p in distribution), Fraction(0)]
        distribution = [a + b for a, b in zip(shifted, stayed, strict=True)]
    return sum(distribution[hits:], Fraction(0))
