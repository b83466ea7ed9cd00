"""Quota windows: equal stretches of UTC time in which a number of queries holds, cut the same way on both sides.

Moments are seconds since 1970 UTC. Windows are half open: the reset itself belongs to the window it opens.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime

DAY = 24 * 60 * 60
MAX_PERIOD = 366 * DAY
_UNITS = {"s": 1, "m": 60, "h": 60 * 60, "d": DAY}


@dataclass(frozen=True)
class Window:
    """One stretch of time, `start` included, `end` not."""

    start: float
    end: float

    def contains(self, t: float) -> bool:
        """True when moment `t` lies in it."""
        return self.start <= t < self.end

    def seconds_left(self, t: float) -> int:
        """Whole seconds from `t` to the end, rounded up: who waits this long is certainly in the next window."""
        return max(0, math.ceil(self.end - t))


@dataclass(frozen=True)
class Period:
    """How time is cut: every `seconds`, counted from 1970-01-01T00:00:00Z plus `offset` seconds.

    Days are cut at the UTC time `offset`. A length that does not divide the day, such as 7h, drifts through it.
    """

    seconds: int
    offset: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.seconds <= MAX_PERIOD:
            raise ValueError("a period must last from one second to 366 days")
        if not 0 <= self.offset < DAY:
            raise ValueError("the reset must be a time of day, 00:00 to 23:59")

    def window_at(self, t: float) -> Window:
        """The window that contains moment `t`."""
        # Bounds are whole seconds, so the fraction of `t` cannot matter; integers leave nothing to round.
        start = (math.floor(t) - self.offset) // self.seconds * self.seconds + self.offset
        return Window(float(start), float(start + self.seconds))


def parse_period(text: str) -> int:
    """Seconds of `20s`, `90m`, `24h` or `7d`. Raises `ValueError` with a sentence for the user."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a period: a whole number and one of s, m, h, d is expected, such as 24h")
    seconds = int(match[1]) * _UNITS[match[2]]
    if not 1 <= seconds <= MAX_PERIOD:
        raise ValueError(f"{text!r} is not a period: it must last from one second to 366 days")
    return seconds


def parse_reset(text: str) -> int:
    """Seconds since midnight UTC of `HH:MM`. Raises `ValueError` with a sentence for the user."""
    match = re.fullmatch(r"([01][0-9]|2[0-3]):([0-5][0-9])", text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a time of day: HH:MM in UTC is expected, such as 03:30")
    return int(match[1]) * 3600 + int(match[2]) * 60


def label(window: Window, period: Period) -> str:
    """A short name: `2026-11-21` where the period is whole days, otherwise the start, `2026-11-21T03:20:40Z`."""
    start = iso(window.start)
    return start.partition("T")[0] if period.seconds % DAY == 0 else start


def iso(t: float) -> str:
    """Moment `t` in ISO 8601, UTC, whole seconds: `2026-11-21T03:20:40Z`."""
    return datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
