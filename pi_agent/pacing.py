"""How fast to ask: pauses after a failure, and how many queries at the same time."""

from __future__ import annotations

import random
from collections.abc import Callable

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
PATIENCE = 60.0
"""Seconds that we wait at most when the oracle asks us to slow down; longer means another day."""
BREAKER = 3
"""So many images without an answer in a row, and the night ends before the budget is burnt on a sick oracle."""


class Pacing:
    """`width` queries may be under way: one at first and after a failure, doubled with every answer up to `in_flight`.

    Whether an oracle is well, knows our key and has not locked us out, is found out with a single query.
    """

    def __init__(self, in_flight: int, jitter: Callable[[], float] = random.random) -> None:
        self._in_flight, self._jitter = in_flight, jitter
        self.width = 1
        self._fruitless = 0

    def answered(self) -> None:
        """The oracle answered: it is well."""
        self.width = min(self._in_flight, self.width * 2)
        self._fruitless = 0

    def failed(self) -> None:
        """An attempt failed: until the oracle answers again, one query at a time, so that little is burnt."""
        self.width = 1

    def gave_up(self) -> bool:
        """An image brought no answer at all; True when that were too many in a row."""
        self._fruitless += 1
        return self._fruitless >= BREAKER

    def pause(self, number: int) -> float:
        """Seconds before attempt `number` + 1: exponential backoff with jitter, half to full of 0.5, 1, 2 ... 30."""
        return min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** (number - 1)) * (0.5 + self._jitter() / 2)
