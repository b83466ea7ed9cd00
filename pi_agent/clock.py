"""Time, and how much to trust it. A Pi has no real-time clock: after a power cut it may believe anything."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SYNCHRONIZED_FLAG = Path("/run/systemd/timesync/synchronized")
RELEASED = "2026-11-21"
"""The day of this release: a clock that shows an earlier one is wrong, whoever vouches for it."""
_TIME_ERROR = 5
_STA_UNSYNC = 0x40


def kernel_synchronized() -> bool | None:
    """The kernel's own word, which chrony, ntpd and timesyncd all set; None where it may not be asked.

    A unit with `ProtectClock=yes` may not ask. The kernel takes its word back when nobody has corrected the clock for
    some hours.
    """
    import ctypes

    class Timex(ctypes.Structure):
        """The head of `struct timex` in <sys/timex.h>; the padding is longer than its tail."""

        _fields_ = (
            ("modes", ctypes.c_uint),  # 0: only read
            ("offset", ctypes.c_long),
            ("freq", ctypes.c_long),
            ("maxerror", ctypes.c_long),
            ("esterror", ctypes.c_long),
            ("status", ctypes.c_int),
            ("rest", ctypes.c_char * 512),
        )

    try:
        adjtimex = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):  # not Linux
        return None
    timex = Timex()
    state = adjtimex(ctypes.byref(timex))
    if state < 0:
        return None
    return bool(state != _TIME_ERROR and not timex.status & _STA_UNSYNC)


def system_synchronized() -> bool:
    """True when systemd-timesyncd or the kernel says that the clock is synchronized."""
    return SYNCHRONIZED_FLAG.exists() or kernel_synchronized() is True


def seconds_since_boot() -> float:
    """A clock that nobody can set; it goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Clock:
    """Wall clock in seconds since 1970 UTC, sleeping, whether the system calls itself synchronized, and a stopwatch.

    `elapsed` counts seconds from any moment on. How long something took is never a difference of `now`: somebody may
    have set the clock meanwhile.
    """

    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    synchronized: Callable[[], bool] = system_synchronized
    elapsed: Callable[[], float] = seconds_since_boot
