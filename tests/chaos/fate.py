"""What shall happen to one run of the agent: when it is killed, and what network, clock and disk do meanwhile."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from tests.chaos.network import Weather

AIMS = {
    "start-up": 2,
    "recovery": 2,
    "opening": 2,
    "sent": 8,
    "settling": 8,
    "asking": 12,
    "ending": 5,
    "none": 3,
}
"""Where a kill is aimed at, and how often. `ending`: the checkpoint after the last word; `none`: it may live."""
WITHOUT_BUDGET = {"start-up": 3, "recovery": 3, "ending": 2}
"""Aims that can be met in a window that is spent."""
_LATEST_SECONDS = {
    "start-up": 0.6,
    "recovery": 0.012,
    "opening": 0.03,
    "sent": 0.004,
    "settling": 0.012,
    "asking": 0.9,
    "ending": 0.02,
    "none": 0.0,
}
CLOCKS = {
    "right": 10,
    "boots in 1970": 2,
    "falls to 1970": 1,
    "a year ahead": 2,
    "over the reset": 2,
    "back over the reset": 2,
    "a little back": 4,
    "some seconds": 3,
}
_YEAR = 366 * 24 * 60 * 60
_TROUBLED_DISKS = 0.1


@dataclass(frozen=True)
class Plan:
    """One campaign. Counts are queries, times seconds. `batch`: pictures that are queued at once."""

    kills: int
    seed: int
    in_flight: int = 1
    quota: int = 60
    server_quota: int = 60
    period: int = 20
    timeout: float = 2.0
    batch: int = 30
    small_disk: bool = False

    @property
    def skew(self) -> float:
        """What the agent allows for: a tenth of the period, 2 to 30 seconds."""
        return min(30.0, max(2.0, self.period / 10))


@dataclass(frozen=True)
class Fate:
    """One run. `moment`: seconds between the event aimed at and the kill; `clock`: (seconds, offset), from the start or
    `from_question`: from the first question on. `limit`: queries of this run; `file_limit`: bytes a file may have;
    `full_after`: seconds until the disk is full.
    """

    aim: str
    moment: float
    weather: Weather
    clock_name: str = "right"
    clock: tuple[tuple[float, float], ...] = ()
    from_question: bool = False
    limit: int | None = None
    file_limit: int | None = None
    full_after: float | None = None

    @property
    def disk_fails(self) -> bool:
        """True where a full disk may end this run."""
        return self.file_limit is not None or self.full_after is not None


def draw(rng: random.Random, plan: Plan, drift: float, budget_left: bool, wal_bytes: int) -> Fate:
    """The next run's fate."""
    aim = _pick(rng, AIMS if budget_left else WITHOUT_BUDGET)
    clock_name = _pick(rng, CLOCKS)
    file_limit, full_after = None, None
    if rng.random() < _TROUBLED_DISKS:
        if plan.small_disk and rng.random() < 0.7:
            full_after = rng.uniform(0, 1)
        else:
            file_limit = rng.choice((rng.randrange(40_000), wal_bytes + rng.randrange(60_000)))
    return Fate(
        aim,
        rng.uniform(0, _LATEST_SECONDS[aim]),
        _weather(rng),
        clock_name,
        _clock(rng, clock_name, plan, drift),
        rng.random() < 0.6,
        rng.randint(1, 8) if aim in ("ending", "none") else None,
        file_limit,
        full_after,
    )


def _pick(rng: random.Random, table: dict[str, int]) -> str:
    return rng.choices(list(table), list(table.values()))[0]


def _weather(rng: random.Random) -> Weather:
    faults = rng.choice((0.0, 0.03, 0.1, 0.3, 0.6))
    unreachable = rng.uniform(0.2, 1) if rng.random() < 0.05 else 0.0
    lost = rng.uniform(0.2, 1) if rng.random() < 0.1 else 0.0
    return Weather(faults, unreachable, lost, rng.choice((0.005, 0.04, 0.12)))


def _clock(rng: random.Random, name: str, plan: Plan, drift: float) -> tuple[tuple[float, float], ...]:
    now, at, period = time.time() + drift, rng.uniform(0, 1), plan.period
    behind = now % period
    if name == "right":
        return ((0.0, drift),)
    if name == "boots in 1970":
        return ((0.0, rng.uniform(0, 1e6) - now), (at, drift))
    offset = (
        drift
        + {
            "falls to 1970": rng.uniform(0, 1e6) - now,
            "a year ahead": _YEAR + rng.uniform(0, period),
            "over the reset": period - behind + rng.uniform(-at, 3),
            "back over the reset": -behind - at - rng.uniform(0, 5),
            "a little back": -rng.uniform(0.5, plan.timeout + 1),
            "some seconds": rng.uniform(-period, period),
        }[name]
    )
    jump = ((0.0, drift), (at, offset))
    return jump if rng.random() < 0.3 else (*jump, (at + rng.uniform(0.05, 1.5), drift))
