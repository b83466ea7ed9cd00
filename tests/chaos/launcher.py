"""Start `pi-agent` under a clock that jumps and a disk that fills; run as `launcher.py CLOCK BYTES ARGUMENTS...`.

CLOCK is a file of one float64: seconds to be added to the time, read anew whenever the agent looks at its clock. BYTES:
no file may grow beyond it (`-`: no limit). The product itself has no such switch.
"""

from __future__ import annotations

import dataclasses
import mmap
import resource
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path


def jumping(path: Path) -> Callable[[], float]:
    """A clock that is off by what the file says at that moment."""
    with path.open("rb") as stream:
        shown = mmap.mmap(stream.fileno(), 8, access=mmap.ACCESS_READ)
    return lambda: time.time() + float(struct.unpack("<d", shown[:8])[0])


def main() -> None:
    """Put the clock in place before anybody imports it, then be `pi-agent`."""
    clock_file, limit = sys.argv[1:3]
    sys.argv[1:] = sys.argv[3:]
    if limit != "-":
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))

    import pi_agent.clock

    off_by = jumping(Path(clock_file))

    @dataclasses.dataclass(frozen=True)
    class Jumping(pi_agent.clock.Clock):
        now: Callable[[], float] = off_by
        synchronized: Callable[[], bool] = lambda: False  # of a clock that jumps, nobody may say so

    pi_agent.clock.Clock = Jumping  # type: ignore[misc]

    from pi_agent.cli import main as pi_agent_main

    pi_agent_main()


if __name__ == "__main__":
    main()
