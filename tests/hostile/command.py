"""The real command, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def agent(ground: Path, *arguments: object, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """`pi-agent verify` as a user would type it, in a folder from which `../canary` can be reached."""
    command = [*before, sys.executable, "-m", "pi_agent", "verify", *map(str, arguments), "--json"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(ground / "home"), "TMPDIR": str(ground / "tmp")}
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run(
        command, capture_output=True, text=True, timeout=150, check=False, cwd=ground / "suspect", env=environment
    )
