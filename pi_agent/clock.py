"""Time, and how much to trust it. A Pi has no real-time clock: after a power cut it may believe anything."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SYNCHRONIZED_FLAG = Path("/run/systemd/timesync/synchronized")


@dataclass(frozen=True)
class Clock:
    """Wall clock in seconds since 1970 UTC, sleeping, and whether the system calls itself synchronized."""

    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    synchronized: Callable[[], bool] = SYNCHRONIZED_FLAG.exists
