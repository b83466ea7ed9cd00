"""Real `pi-agent` processes on a home folder of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tests.support import query_jpeg

ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("PI_AGENT_", "STATE_DIR", "CREDENTIALS_"))}


@dataclass(frozen=True)
class Ended:
    """A process that has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        """The result on stdout: exactly one JSON object."""
        result: dict[str, Any] = json.loads(self.stdout)
        return result

    @property
    def error(self) -> dict[str, Any]:
        """The error on stderr: the last line, after the log."""
        result: dict[str, Any] = json.loads(self.stderr.splitlines()[-1])["error"]
        return result


@dataclass(frozen=True)
class Pi:
    """One agent. `run` waits for a command, `start` does not."""

    home: Path

    def start(
        self,
        *arguments: object,
        limits: Callable[[], None] | None = None,
        stdout: int | IO[str] = subprocess.PIPE,
        **environment: str,
    ) -> subprocess.Popen[str]:
        """Start `pi-agent --home HOME ARGUMENTS` with further environment variables."""

        def prepare() -> None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs inherit it ignored
            if limits:
                limits()

        return subprocess.Popen(
            [sys.executable, "-m", "pi_agent", "--home", str(self.home), *map(str, arguments)],
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT | environment,
            preexec_fn=prepare,
        )

    def run(self, *arguments: object, **options: Any) -> Ended:
        """Run a command to its end."""
        process = self.start(*arguments, **options)
        stdout, stderr = process.communicate(timeout=60)
        assert "Traceback" not in stderr, stderr
        return Ended(process.returncode, stdout, stderr)

    def done(self, *arguments: object, **options: Any) -> dict[str, Any]:
        """The JSON result of a command that must end well."""
        ended = self.run(*arguments, "--json", **options)
        assert ended.code == 0, ended.stderr
        return ended.json

    def fails(self, *arguments: object, **options: Any) -> dict[str, Any]:
        """The JSON error of a command that must not end well; its exit code is the one it names."""
        ended = self.run(*arguments, "--json", **options)
        assert ended.code == ended.error["exit"] != 0, ended.stderr
        return ended.error

    def init(self, url: str, quota: int = 100, *arguments: object) -> None:
        """Configure it."""
        self.done("init", "--url", url, "--daily-quota", quota, *arguments)

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Read the agent's database as it is."""
        with contextlib.closing(sqlite3.connect(self.home / "agent.db")) as database:
            return database.execute(sql, values).fetchall()


def pictures(folder: Path, count: int, first: int = 0) -> Path:
    """A folder with `count` different query images."""
    folder.mkdir(exist_ok=True)
    for seed in range(first, first + count):
        (folder / f"{seed:03}.jpg").write_bytes(query_jpeg(seed))
    return folder
