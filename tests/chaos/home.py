"""The agent's machine: a home folder, a clock that can be set, and a disk that can be filled."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pi_agent.contract.images import SIDE
from pi_agent.prepare import encode_query
from tests.support_agent import ENVIRONMENT, Ended

_LAUNCHER = Path(__file__).with_name("launcher.py")
_STEP = 5
_SHADES = 255 // _STEP


@dataclass(frozen=True)
class Machine:
    """`folder` holds everything; the agent's own home is `home`, which may be a disk of its own."""

    folder: Path
    environment: dict[str, str]

    @property
    def home(self) -> Path:
        """The agent's home folder."""
        return self.folder / "disk" / "home"

    def set_clock(self, offset: float) -> None:
        """From now on the agent's clock is off by so many seconds."""
        with (self.folder / "clock").open("r+b" if (self.folder / "clock").exists() else "wb") as stream:
            stream.write(struct.pack("<d", offset))

    def start(self, *arguments: object, file_limit: int | None = None, **environment: str) -> subprocess.Popen[bytes]:
        """Start `pi-agent ARGUMENTS`; what it says goes to the files `stdout` and `stderr`."""
        limit = "-" if file_limit is None else str(file_limit)
        line = [sys.executable, "-P", str(_LAUNCHER), str(self.folder / "clock"), limit]
        with (self.folder / "stdout").open("wb") as out, (self.folder / "stderr").open("wb") as err:
            return subprocess.Popen(
                [*line, "--home", str(self.home), *map(str, arguments)],
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
                env=ENVIRONMENT | self.environment | environment,
            )

    def ended(self, process: subprocess.Popen[bytes]) -> Ended:
        """What a process that has ended said."""
        said = [(self.folder / name).read_text(errors="replace") for name in ("stdout", "stderr")]
        return Ended(process.returncode, *said)

    def run(self, *arguments: object, **environment: str) -> Ended:
        """Run a command to its end."""
        process = self.start(*arguments, "--json", **environment)
        process.wait(timeout=600)
        return self.ended(process)

    def done(self, *arguments: object, **environment: str) -> dict[str, Any]:
        """The result of a command that must end well. Raises `RuntimeError`."""
        ended = self.run(*arguments, **environment)
        if ended.code != 0:
            raise RuntimeError(f"pi-agent {' '.join(map(str, arguments))}: exit {ended.code}\n{ended.stderr}")
        return ended.json

    def says(self) -> bool:
        """True when the running command has given its result."""
        return (self.folder / "stdout").stat().st_size > 0

    def lock_holder(self) -> str:
        """The process that the spender's lock names."""
        with contextlib.suppress(OSError):
            return (self.home / "spender.lock").read_text().strip()
        return ""

    def fill(self, leave: int) -> None:
        """Leave so many bytes on the disk. Only on a disk of its own."""
        free = shutil.disk_usage(self.home).free
        if free > leave:
            with (self.home.parent / "filler").open("ab") as stream, contextlib.suppress(OSError):
                os.posix_fallocate(stream.fileno(), stream.tell(), free - leave)

    def clear(self) -> None:
        """Take the filling away."""
        (self.home.parent / "filler").unlink(missing_ok=True)

    def add(self, first: int, count: int) -> dict[str, Any]:
        """Queue `count` further pictures, each of one colour of its own, so that each has an answer of its own."""
        photos = self.folder / "photos"
        shutil.rmtree(photos, ignore_errors=True)
        photos.mkdir()
        for number in range(first, first + count):
            (photos / f"{number:06}.jpg").write_bytes(flat_picture(number))
        return self.done("add", photos)


def flat_picture(number: int) -> bytes:
    """The query image of one colour, one of 132,651."""
    mixed = number * 49_999 % _SHADES**3  # neighbours look different
    colour = [mixed % _SHADES, mixed // _SHADES % _SHADES, mixed // _SHADES**2]
    return encode_query(np.full((SIDE, SIDE, 3), [c * _STEP for c in colour], dtype=np.uint8))


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[bool]:
    """Mount a small disk in memory on `folder` for the length of the block; False where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    line = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    allowed = shutil.which("mount") is not None
    mounted = allowed and subprocess.run(line, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)
