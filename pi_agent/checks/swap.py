"""Does the system swap onto its SD card?"""

from __future__ import annotations

from pathlib import Path

from pi_agent.checks.base import Context, Finding, passed, warning

_ADVICE = "swapping wears the card: use zram instead (apt install zram-tools), or a small vm.swappiness"


def check(context: Context) -> Finding:
    """A file or a partition on /dev/mmcblk is one; zram is not."""
    areas = [line.split()[0] for line in (context.read("proc", "swaps") or "").splitlines()[1:] if line.split()]
    card = _root_device(context).startswith("/dev/mmcblk")
    worn = [a for a in areas if a.startswith("/dev/mmcblk") or (card and not a.startswith("/dev/"))]
    if worn:
        return warning(f"{', '.join(worn)} is swap on an SD card", _ADVICE)
    return passed(", ".join(Path(a).name for a in areas) or "none")


def _root_device(context: Context) -> str:
    for line in (context.read("proc", "mounts") or "").splitlines():
        words = line.split()
        if len(words) > 1 and words[1] == "/":
            return words[0]
    return ""
