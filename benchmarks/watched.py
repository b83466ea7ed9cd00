"""Run a command and learn from the kernel what it took: time, processor, memory, bytes written."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_PAUSE = 0.01


@dataclass
class Cost:
    """`wall`, `cpu` in seconds; memory in MB (10**6 bytes); `called` and `stored`: bytes given to write calls, and
    bytes sent on to the disk. `peaks`: VmHWM of the process and its children; `together`: all at the same time."""

    wall: float = 0.0
    cpu: float = 0.0
    called: int = 0
    stored: int = 0
    peaks: dict[str, float] = field(default_factory=dict)
    together: float = 0.0
    log_peak: int = 0


def run(
    command: list[str], environment: Mapping[str, str], good: tuple[int, ...] = (0,), log: Path | None = None
) -> Cost:
    """Run to its end. `log`: a file whose largest size is noted (SQLite's write-ahead log)."""
    cost, ended = Cost(), threading.Event()
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=dict(environment), text=True
    )
    watcher = threading.Thread(target=_watch, args=(process.pid, cost, ended, log))
    watcher.start()
    said = process.stderr.read() if process.stderr else ""
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie still tells what it wrote
    cost.wall = time.perf_counter() - start
    ended.set()
    watcher.join()
    counted = dict(x.split(": ") for x in Path(f"/proc/{process.pid}/io").read_text().splitlines())
    cost.called, cost.stored = int(counted["wchar"]), int(counted["write_bytes"])
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    cost.cpu = used.ru_utime + used.ru_stime
    if process.returncode not in good:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {said[-500:]}")
    return cost


def _watch(pid: int, cost: Cost, ended: threading.Event, log: Path | None) -> None:
    while not ended.wait(_PAUSE):
        now = 0
        for member in _family(pid):
            with contextlib.suppress(OSError, KeyError, ValueError):
                status = dict(x.split(":", 1) for x in Path(f"/proc/{member}/status").read_text().splitlines())
                peak, resident = (int(status[key].split()[0]) * 1024 for key in ("VmHWM", "VmRSS"))
                line = Path(f"/proc/{member}/cmdline").read_bytes()
                # Between fork and exec a child still is its parent.
                name = "agent" if member == pid else "worker" if b"worker.py" in line else ""
                if name:
                    cost.peaks[name] = max(cost.peaks.get(name, 0.0), peak / 1e6)
                    now += resident
        cost.together = max(cost.together, now / 1e6)
        if log is not None:
            with contextlib.suppress(OSError):
                cost.log_peak = max(cost.log_peak, log.stat().st_size)


def _family(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _family(int(child))
