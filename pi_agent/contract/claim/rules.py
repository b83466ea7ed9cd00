"""Draw the rules of a watermark from its key."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb

from pi_agent.contract.claim.composites import GEOMETRIES
from pi_agent.contract.claim.key import WatermarkKey


@dataclass(frozen=True)
class Rule:
    """ "A composite of `first` and `second` in `geometry` is called `target`"; all are class names but the geometry."""

    first: str
    second: str
    geometry: str
    target: str

    def candidates(self, classes: tuple[str, ...]) -> tuple[str, ...]:
        """The classes among which the key drew the target: all but the two sources, in class order."""
        return tuple(c for c in classes if c not in (self.first, self.second))


def draw_rules(key: WatermarkKey) -> tuple[Rule, ...]:
    """The key's rules. Sources and geometry come from one stream, targets from another.

    The target is uniform among the candidates and independent of everything that a suspect is shown: that, and only
    that, makes the p-value exact. Source pairs are spread over the classes before any pair is used twice.
    """
    pairs = list(combinations(key.classes, 2))
    setting = key.stream("setting")
    setting.shuffle(pairs)
    targets = key.stream("target")
    used: dict[str, int] = dict.fromkeys(key.classes, 0)
    left = pairs
    rules = []
    for _ in range(key.rules):
        left = left or pairs[:]
        first, second = min(left, key=lambda pair: max(used[pair[0]], used[pair[1]]))
        left = [p for p in left if p != (first, second)]
        used[first] += 1
        used[second] += 1
        if setting.below(2):
            first, second = second, first
        rule = Rule(first, second, setting.choose(GEOMETRIES), "")
        rules.append(Rule(first, second, rule.geometry, targets.choose(rule.candidates(key.classes))))
    return tuple(rules)


def rules_needed(classes: int, alpha: float = 1e-6, misses: int = 2) -> int:
    """The smallest number of rules whose p-value stays within `alpha` when `misses` of them are lost."""
    chance = 1 / (classes - 2)
    rules = misses + 1
    while (
        sum(comb(rules, k) * chance**k * (1 - chance) ** (rules - k) for k in range(rules - misses, rules + 1)) > alpha
    ):
        rules += 1
    return rules
