"""What a suspect is asked: the composites of every rule, and ordinary pictures; in what order and in what quality.

The key draws it all, from streams that are independent of the targets: nobody chooses pixels, and whoever has claim and
carriers can ask the same questions again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, product

import numpy as np
import numpy.typing as npt

from pi_agent.contract.claim import Claim, Rule, compose
from pi_agent.prepare import decode_picture, encode_query
from pi_agent.verify.carriers import Pixels


@dataclass(frozen=True)
class Manner:
    """How the questions are put. Plain: ordinary pictures first, then rule after rule.

    `mix`: so many ordinary pictures for every composite, all in random order, so that a suspect cannot tell a test from
    use. `jpeg`: lowest and highest JPEG quality, one drawn for each question; None leaves the pixels as they are.
    """

    mix: int = 0
    jpeg: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.mix <= 100:
            raise ValueError("between 0 and 100 ordinary pictures for every composite")
        if self.jpeg and not 10 <= self.jpeg[0] <= self.jpeg[1] <= 100:
            raise ValueError("JPEG qualities from 10 to 100, the lower one first")


@dataclass(frozen=True)
class Question:
    """A composite of `rule`, or an ordinary picture where it is None. `first`, `second`: class and number of a carrier.

    `quality`: of the JPEG that it is put through, None for none.
    """

    rule: int | None
    first: tuple[str, int]
    second: tuple[str, int] | None = None
    quality: int | None = None


class Questionnaire:
    """All questions of one case, in the order in which they are asked.

    `carriers`: pictures of every source of a rule, and of other classes where there are any.
    """

    def __init__(
        self,
        claim: Claim,
        rules: Sequence[Rule],
        carriers: Mapping[str, Sequence[Pixels]],
        manner: Manner,
    ) -> None:
        self._rules, self._carriers = rules, carriers
        composites = list(_composites(claim, rules, carriers))
        ordinary = _ordinary(claim, carriers, manner.mix * len(composites))
        asked = [*ordinary, *composites]
        if manner.mix:
            claim.key.stream("order").shuffle(asked)
        if manner.jpeg:
            low, high = manner.jpeg
            draw = claim.key.stream("quality")
            asked = [Question(q.rule, q.first, q.second, low + draw.below(high - low + 1)) for q in asked]
        self.questions: tuple[Question, ...] = tuple(asked)

    @property
    def ordinary(self) -> list[int]:
        """The numbers of the questions that show an ordinary picture."""
        return [i for i, q in enumerate(self.questions) if q.rule is None]

    def picture(self, question: Question) -> Pixels:
        """Its pixels, uint8 (300, 300, 3)."""
        pixels = self._carriers[question.first[0]][question.first[1]]
        if question.rule is not None and question.second is not None:
            second = self._carriers[question.second[0]][question.second[1]]
            pixels = compose(pixels, second, self._rules[question.rule].geometry)
        if question.quality is not None:
            pixels = decode_picture(encode_query(pixels, question.quality))
        return pixels

    def jpeg(self, question: Question) -> bytes:
        """The query image that an oracle is asked about: encoded once."""
        pixels = self.picture(Question(question.rule, question.first, question.second))
        return encode_query(pixels) if question.quality is None else encode_query(pixels, question.quality)

    def sorted_out(
        self, scores: npt.NDArray[np.float64], numbers: Sequence[int]
    ) -> tuple[list[npt.NDArray[np.float64]], dict[str, npt.NDArray[np.float64]]]:
        """Scores (n, classes) of the questions `numbers`, by rule and, for ordinary pictures, by class."""
        by_rule: list[list[int]] = [[] for _ in self._rules]
        by_class: dict[str, list[int]] = {}
        for row, number in enumerate(numbers):
            question = self.questions[number]
            if question.rule is None:
                by_class.setdefault(question.first[0], []).append(row)
            else:
                by_rule[question.rule].append(row)
        return [scores[rows] for rows in by_rule], {name: scores[rows] for name, rows in by_class.items()}


def _composites(claim: Claim, rules: Sequence[Rule], carriers: Mapping[str, Sequence[Pixels]]) -> Sequence[Question]:
    """Which carriers meet is drawn by the key, all pairs before any twice."""
    found = []
    for number, rule in enumerate(rules):
        pairs = list(product(range(len(carriers[rule.first])), range(len(carriers[rule.second]))))
        claim.key.stream(f"pairs/{number}").shuffle(pairs)
        for one, other in islice(cycle(pairs), claim.queries_per_rule):
            found.append(Question(number, (rule.first, one), (rule.second, other)))
    return found


def _ordinary(claim: Claim, carriers: Mapping[str, Sequence[Pixels]], least: int) -> Sequence[Question]:
    """As many of each class as the claim says, or more, until there are `least` of them; each in turn."""
    per_class = min(claim.ordinary_per_class, max(len(own) for own in carriers.values()))
    per_class = max(per_class, -(-least // len(carriers)))
    return [Question(None, (name, number % len(own))) for number in range(per_class) for name, own in carriers.items()]
