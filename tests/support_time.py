"""A clock that a test moves, and a database that is quick to sync."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pi_agent.clock import Clock
from pi_agent.contract.windows import Period
from pi_agent.store.db import Database
from pi_agent.store.ledger import Ledger
from pi_agent.store.queue import Queue

IMAGE = "ab" * 32


@dataclass
class FakeTime:
    """True time, and a wall clock that may differ from it; sleeping moves both."""

    true: float = 1_000_000.0
    offset: float = 0.0
    flag: bool = False
    slept: list[float] = field(default_factory=list)

    def now(self) -> float:
        """What the wall clock shows."""
        return self.true + self.offset

    def sleep(self, seconds: float) -> None:
        """Time passes."""
        self.slept.append(seconds)
        self.true += seconds

    @property
    def clock(self) -> Clock:
        """The agent's seam."""
        return Clock(self.now, self.sleep, lambda: self.flag, lambda: self.true)


@contextlib.contextmanager
def quick_database() -> Iterator[Database]:
    """A real database in a folder of its own, in memory where the system has such a place."""
    memory = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder,
        Database(Path(folder) / "agent.db") as database,
    ):
        Queue(database).add([(IMAGE, "test")], 0, 0.0)
        yield database


def ledger_of(
    database: Database, time: FakeTime, quota: int = 3, seconds: int = 100, timeout: float = 20.0, oracle: str = "o"
) -> Ledger:
    """A ledger on that clock; 100 seconds have a skew of 10."""
    return Ledger(database, oracle, quota, Period(seconds), time.clock, timeout)
