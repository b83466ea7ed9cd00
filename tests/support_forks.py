"""Many `pi-agent` processes, quickly: one process imports everything once, and every command runs in a fork of it.

A fork is a process like any other, with its own SQLite, its own exit code and a disk that fails as it is told.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support_agent import ENVIRONMENT, Ended
from tests.support_faults import Fault, failing_files, failing_sqlite

ROOT = Path(__file__).parent.parent
_PATIENCE = 60


@dataclass(frozen=True)
class Struck(Ended):
    """A process that has ended, and what it wrote: `operations` are lines such as `7 sync agent.db-wal FAILED`."""

    operations: tuple[str, ...]

    @property
    def failed(self) -> list[str]:
        """The operations that failed."""
        return [line for line in self.operations if line.endswith("FAILED")]


@dataclass(frozen=True)
class Forks:
    """Runs agents on a failing disk."""

    server: subprocess.Popen[str]

    def run(self, home: Path, *arguments: object, fault: Fault | None = None, **environment: str) -> Struck:
        """Run `pi-agent --home HOME ARGUMENTS` to its end; the fault's count starts with the command."""
        fault = fault or Fault()
        with tempfile.TemporaryDirectory() as folder:
            request = {
                "folder": folder,
                "arguments": ["--home", str(home), *map(str, arguments)],
                "environment": environment,
                "at": fault.at,
                "operations": sorted(fault.operations),
                "error": fault.error,
                "lasting": fault.lasting,
                "torn": fault.torn,
            }
            assert self.server.stdin is not None and self.server.stdout is not None
            self.server.stdin.write(json.dumps(request) + "\n")
            self.server.stdin.flush()
            code = int(self.server.stdout.readline())
            stdout, stderr, log = ((Path(folder) / name).read_text() for name in ("stdout", "stderr", "log"))
        assert code != -signal.SIGALRM, f"it hangs: {stderr}"
        assert "Traceback" not in stderr and "Exception ignored" not in stderr, stderr
        return Struck(code, stdout, stderr, tuple(log.splitlines()))


@contextlib.contextmanager
def forks() -> Iterator[Forks]:
    """A process that forks agents, for the length of the block."""
    line = [sys.executable, "-c", "from tests.support_forks import serve; serve()"]
    server = subprocess.Popen(
        line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=ENVIRONMENT | {"PYTHONPATH": "."}
    )
    try:
        yield Forks(server)
    finally:
        assert server.stdin is not None
        server.stdin.close()
        server.wait(timeout=_PATIENCE)


def serve() -> None:
    """Read one request a line, fork, run, answer with the exit code."""
    import importlib

    import cv2
    import requests  # noqa: F401

    from pi_agent.cli import VERBS

    cv2.setNumThreads(0)
    for verb in VERBS:
        importlib.import_module(f"pi_agent.commands.{verb}")
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _run(request)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _run(request: dict[str, Any]) -> None:
    code = 1
    try:
        folder = Path(request["folder"])
        signal.alarm(_PATIENCE)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(folder / name, flags), number)
        log = os.open(folder / "log", flags)
        os.environ.update(request["environment"])
        fault = Fault(
            request["at"],
            frozenset(request["operations"]),
            request["error"],
            request["lasting"],
            request["torn"],
            note=lambda text: os.write(log, f"{text}\n".encode()) and None,
        )
        from pi_agent.cli import cli
        from pi_agent.contract.output import run

        with failing_sqlite(fault), failing_files(fault):
            code = run(cli, "pi-agent", request["arguments"])
        sys.stdout.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)
