"""Exact p-values under key randomisation: how likely is it that a stranger's model obeys this key by chance?

Why not count single triggers? All triggers of one rule share sources, geometry and target, so they are one experiment,
not 32: a model that happens to call such composites "trash" would pass a binomial over triggers with any p one likes,
and label bias makes it worse. Here each *rule* is one trial. Its target was drawn uniformly among `m` candidates,
independently of all that the suspect was shown, so whatever the suspect answers, and however biased it is, the chance
that its favourite candidate is the keyed one is at most 1/m. No reference model and no assumption about images enters.

Two statistics, both exact and both over rules:

- *hits* (`tail`): in how many rules is the target the suspect's strict favourite?
- *sums* (`sum_tail`): how much does the suspect give to the targets altogether? The null is every other assignment of
  targets that the key could have drawn, all m1 * m2 * ... of them, counted and not sampled.

Several tests of one suspect are combined by Holm (1979), never by taking the best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

DECISIONS: Mapping[str, tuple[str, ...]] = {"holm": ("score-sum", "hints"), "rule-hits": ("rule-hits",)}
"""What may decide, fixed in the commitment, and the tests that count in it. `rule-hits`: in how many rules the target
is the favourite, the simplest to explain. `holm`: the sums over composites and over ordinary pictures, corrected for
being two tests; more often right about a copy, or a model that was trained on."""
INVESTIGATE = 1e-3
"""Between the claim's alpha and this the verdict is "inconclusive": worth a closer look, not a proof."""
STEPS = 2500
"""The sums are taken over whole numbers, so that counting them is exact. All rules together span about so many steps:
more rules, coarser ones, or a claim with 64 would keep a Pi busy for seconds."""


def tail(chances: Sequence[Fraction], hits: int) -> Fraction:
    """P(at least `hits` successes) of independent trials with the given chances, by exact convolution."""
    return sum(_distribution(tuple(chances))[hits:], Fraction(0))


@lru_cache(maxsize=64)
def _distribution(chances: tuple[Fraction, ...]) -> tuple[Fraction, ...]:
    """The probability of 0, 1, ... successes; the same chances come back for every suspect."""
    distribution: tuple[Fraction, ...] = (Fraction(1),)
    for chance in chances:
        shifted = (Fraction(0), *(p * chance for p in distribution))
        stayed = (*(p * (1 - chance) for p in distribution), Fraction(0))
        distribution = tuple(a + b for a, b in zip(shifted, stayed, strict=True))
    return distribution


def sum_tail(values: Sequence[npt.NDArray[np.floating]], drawn: Sequence[int]) -> Fraction:
    """P(sum >= the observed one) if every rule's target were drawn anew.

    `values[r]`: float (candidates of rule r,), what the suspect gives to each; `drawn[r]`: the index of the keyed one.
    The statistic is the sum of the values as whole steps; rounding does not look at `drawn`, so p stays exact. All
    assignments are counted as one product of polynomials whose exponents are sums and whose coefficients are counts;
    a polynomial is one long integer with a fixed number of bits for every coefficient.
    """
    widest = max((float(np.ptp(v)) for v in values), default=0.0)
    if widest == 0:
        return Fraction(1)
    finest = max(10, STEPS // len(values))
    steps = [np.rint((v - v.min()) / widest * finest).astype(int).tolist() for v in values]
    ways = 1
    for own in steps:
        ways *= len(own)
    bits = ways.bit_length() + 1
    factors = [sum(1 << bits * step for step in own) for own in steps]
    while len(factors) > 1:  # in pairs: long numbers multiply fast when they are of one length
        factors = [a * b for a, b in zip(factors[::2], [*factors[1::2], 1][: len(factors[::2])], strict=True)]
    observed = sum(own[index] for own, index in zip(steps, drawn, strict=True))
    # A number is congruent to the sum of its digits modulo (base - 1), and the sum is smaller than that.
    at_least = (factors[0] >> bits * observed) % ((1 << bits) - 1)
    return Fraction(at_least, ways)


def holm(p_values: Sequence[Fraction]) -> list[Fraction]:
    """Adjusted p-values in the given order (Holm 1979): valid however the tests depend on each other."""
    adjusted, highest = [Fraction(1)] * len(p_values), Fraction(0)
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(Fraction(1), (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted
