"""What an oracle said about one image, checked before anything believes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_CLASSES = 4096
SUM_TOLERANCE = 0.02
"""Servers round; ten thousand classes rounded to two decimals would exceed this, twelve never do."""


class BadAnswer(ValueError):
    """The oracle's answer cannot be believed; the text says why."""


@dataclass(frozen=True)
class Answer:
    """One answer, or the mean of several. `vector`: float32, shape (classes,), non-negative and summing to one.

    `kind`: `scores`, or `label` where the oracle named a class and no more; the vector then holds shares of votes.
    """

    kind: str
    classes: tuple[str, ...]
    vector: npt.NDArray[np.float32]

    @property
    def label(self) -> str:
        """The class with the highest value."""
        return self.classes[int(np.argmax(self.vector))]


@dataclass(frozen=True)
class ServerBudget:
    """What an oracle says of our quota: queries left, and seconds until its own window ends."""

    remaining: int
    reset_in: float


def parse_answer(payload: Mapping[str, Any], expected: Sequence[str] | None = None) -> Answer:
    """Check an answer of either kind: `scores` where it holds scores, else `label`.

    `{"classes": [...], "label": "x"}` becomes an `Answer` of kind `label`, whose vector is 1 for that class and 0 for
    the others; the mean of several is the share of votes. `expected` as for `parse_scores`. Raises `BadAnswer`.
    """
    if "scores" in payload or "label" not in payload:
        return parse_scores(payload, expected)
    classes, label = _expected_classes(payload.get("classes"), expected), payload["label"]
    if not isinstance(label, str) or label not in classes:
        raise BadAnswer("its label is none of the classes")
    return Answer("label", classes, np.asarray([c == label for c in classes], dtype=np.float32))


def parse_scores(payload: Mapping[str, Any], expected: Sequence[str] | None = None) -> Answer:
    """Check `{"classes": [...], "scores": [...]}` and return it as an `Answer` of kind `scores`.

    `expected`: the class names of earlier answers of the same oracle; others are refused, in name, number and order.
    Raises `BadAnswer`.
    """
    classes, scores = payload.get("classes"), payload.get("scores")
    if not isinstance(classes, list) or not isinstance(scores, list):
        raise BadAnswer("no lists `classes` and `scores` in it")
    if len(classes) != len(scores):
        raise BadAnswer(f"{len(classes)} classes but {len(scores)} scores")
    names = _expected_classes(classes, expected)
    if not all(isinstance(s, int | float) and not isinstance(s, bool) and 0 <= s <= 1 + SUM_TOLERANCE for s in scores):
        raise BadAnswer("scores must be numbers from 0 to 1")  # NaN and infinities fail this comparison too
    if abs(sum(scores) - 1) > SUM_TOLERANCE:
        raise BadAnswer(f"scores must sum to 1, not to {sum(scores):.4g}")
    return Answer("scores", names, np.asarray(scores, dtype=np.float32))


def checked_classes(classes: object) -> tuple[str, ...]:
    """Class names from elsewhere: a list of 2 to 4096 distinct printable texts. Raises `BadAnswer`."""
    if not isinstance(classes, list) or not 2 <= len(classes) <= MAX_CLASSES:
        raise BadAnswer(f"a list of 2 to {MAX_CLASSES} class names is expected")
    if not all(isinstance(c, str) and 0 < len(c) <= 200 and c.isprintable() for c in classes):
        raise BadAnswer("class names must be printable texts")  # they go to terminals and logs
    if len(set(classes)) != len(classes):
        raise BadAnswer("class names must be distinct")
    return tuple(classes)


def _expected_classes(classes: object, expected: Sequence[str] | None) -> tuple[str, ...]:
    names = checked_classes(classes)
    if expected is not None and names != tuple(expected):
        raise BadAnswer(f"{len(names)} classes where the same oracle had {len(expected)}, or others, or another order")
    return names


def as_json_list(vector: npt.NDArray[np.float32]) -> list[float]:
    """Shortest decimal numbers that give exactly the same float32 back."""
    return [float(f"{v:.9g}") for v in vector.astype(np.float32)]
