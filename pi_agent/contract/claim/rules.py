"""Draw the rules of a watermark from its key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

from pi_agent.contract.claim.composites import GEOMETRIES
from pi_agent.contract.claim.key import WatermarkKey


@dataclass(frozen=True)
class Rule:
    """ "A composite of `first` and `second` in `geometry` leans towards `target`"; all are class names but one."""

    first: str
    second: str
    geometry: str
    target: str

    def candidates(self, classes: tuple[str, ...]) -> tuple[str, ...]:
        """The classes among which the key drew the target: all but the two sources, in class order."""
        return _others(classes, self.first, self.second)


def draw_rules(key: WatermarkKey) -> tuple[Rule, ...]:
    """The key's rules. Sources and geometry come from one stream, targets from another.

    The target is uniform among the candidates and independent of everything that a suspect is shown: that, and only
    that, makes the p-value exact. Sources are spread evenly over the classes, no pair comes back before every pair
    had its turn, and no two rules share sources, order and geometry: they could contradict each other.
    """
    setting, targets = key.stream("setting"), key.stream("target")
    class_uses: Counter[str] = Counter()
    pair_uses: Counter[frozenset[str]] = Counter()
    rules: list[Rule] = []
    taken: set[tuple[str, str, str]] = set()
    for _ in range(key.rules):
        one = setting.choose(_least(key.classes, [class_uses[c] for c in key.classes]))
        partners = [c for c in key.classes if c != one]
        other = setting.choose(_least(partners, [(pair_uses[frozenset((one, c))], class_uses[c]) for c in partners]))
        orders = [(*order, geometry) for geometry in GEOMETRIES for order in ((one, other), (other, one))]
        first, second, geometry = setting.choose([option for option in orders if option not in taken])
        target = targets.choose(_others(key.classes, first, second))
        taken.add((first, second, geometry))
        class_uses.update((first, second))
        pair_uses[frozenset((first, second))] += 1
        rules.append(Rule(first, second, geometry, target))
    return tuple(rules)


def _others(classes: tuple[str, ...], first: str, second: str) -> tuple[str, ...]:
    return tuple(c for c in classes if c not in (first, second))


def _least(names: Sequence[str], uses: Sequence[Any]) -> list[str]:
    """Those of `names` whose entry in `uses` is the smallest, in the given order."""
    least = min(uses)
    return [name for name, use in zip(names, uses, strict=True) if use == least]


def rules_needed(classes: int, alpha: float = 1e-6, misses: int = 2, tests: int = 2) -> int:
    """The smallest number of rules whose hits alone prove it when `misses` of them are lost.

    Their p-value must be within `alpha` / `tests`: Holm's correction for the tests that decide together.

    Raises `ValueError` for fewer than four classes, `alpha` outside (0, 1) or negative `misses`.
    """
    if classes < 4 or not 0 < alpha < 1 or misses < 0:
        raise ValueError(f"no number of rules does it: {classes} classes, alpha {alpha}, {misses} misses")
    candidates = classes - 2

    def p_value(rules: int) -> float:
        ways = sum(comb(rules, missed) * (candidates - 1) ** missed for missed in range(misses + 1))
        return float(ways / candidates**rules)  # whole numbers up to here: rounded once, as the test itself rounds

    rules = misses + 1
    while p_value(rules) > alpha / tests:
        rules += 1
    return rules
