"""What the system around the agent knows: who is spending queries just now, and when the timer starts the next run."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

TIMER = "pi-agent-collect.timer"
_PATIENCE = 3.0


@dataclass(frozen=True)
class Spender:
    """Whether somebody holds the right to spend queries, and which process; None where nobody can tell."""

    running: bool | None
    pid: int | None = None


def spender(lock: Path, locks: Path = Path("/proc/locks")) -> Spender:
    """Who holds the lock file. Only looks: taking the lock to try it could turn away a run that starts just now."""
    try:
        held = lock.stat()
    except OSError:
        return Spender(False)
    with contextlib.suppress(OSError):
        written = _written(lock)
        for line in locks.read_text().splitlines():
            words = line.split()  # 1: FLOCK ADVISORY WRITE 4711 fd:01:260072 0 EOF
            if len(words) < 8 or words[1] != "FLOCK" or words[5].rpartition(":")[2] != str(held.st_ino):
                continue
            pid = int(words[4])
            major, minor = (int(part, 16) for part in words[5].split(":")[:2])
            # Some file systems (btrfs, overlay) show another device here: then the name in the file must fit.
            if os.makedev(major, minor) == held.st_dev or pid == written:
                return Spender(True, pid if pid > 0 else written)  # 0: a process of another container
        return Spender(False)
    return Spender(None)


def _written(lock: Path) -> int | None:
    try:
        return int(lock.read_text(encoding="ascii")[:20])
    except (OSError, ValueError):
        return None


def next_run(timer: str = TIMER, booted: Path = Path("/run/systemd/system")) -> float | None:
    """When systemd starts the timer's service next, in seconds since 1970; None where it does not."""
    systemctl = shutil.which("systemctl")
    if systemctl is None or not booted.is_dir():
        return None
    line = [systemctl, "show", timer, "--property=NextElapseUSecRealtime", "--value", "--timestamp=unix"]
    try:
        done = subprocess.run(
            line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
        return float(done.stdout.strip().removeprefix("@"))  # empty or `n/a` where no run is planned
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
