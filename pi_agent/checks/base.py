"""What a check gets and what it gives back. A check works on its own, whatever else is broken."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pi_agent.clock import Clock
from pi_agent.config import Config, load_config
from pi_agent.contract.errors import Exit, MagpieError
from pi_agent.paths import Home

OK, WARNING, FAILED = "ok", "warning", "failed"


@dataclass(frozen=True)
class Finding:
    """What one check found and what to do about it. `exit_code` says how `doctor` ends where this is what failed."""

    outcome: str
    found: str
    advice: str = ""
    exit_code: Exit = Exit.OK


def passed(found: str) -> Finding:
    """All is well."""
    return Finding(OK, found)


def warning(found: str, advice: str) -> Finding:
    """The agent works, but somebody should look at this."""
    return Finding(WARNING, found, advice)


def failed(found: str, advice: str, exit_code: Exit) -> Finding:
    """The agent cannot do its work like this."""
    return Finding(FAILED, found, advice, exit_code)


def failed_with(error: MagpieError) -> Finding:
    """An error of the agent as a finding: the same words, the same exit code."""
    return Finding(FAILED, str(error), error.advice, error.exit_code)


def not_checked(why: str) -> Finding:
    """Something else, which has its own check, is in the way."""
    return Finding(WARNING, f"not checked: {why}", "see the other lines first")


@dataclass(frozen=True)
class Context:
    """The home folder, things that are opened on first use, and the system the checks look at.

    `root`: the folder under which /proc, /sys and /boot are; `python`: the interpreter for checks in a child process.
    """

    home: Home
    clock: Clock = field(default_factory=Clock)
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    root: Path = Path("/")
    python: str = sys.executable

    @cached_property
    def config(self) -> Config:
        """The configuration. Raises `ConfigError` (78), `CannotCreate` (73)."""
        return load_config(self.home, self.environment)

    @property
    def oracle_id(self) -> str:
        """The name under which the database knows the oracle. Raises as `config`."""
        oracle = self.config.oracle
        return f"{oracle.protocol}:{oracle.url.rstrip('/')}"

    @contextlib.contextmanager
    def database(self) -> Iterator[sqlite3.Connection]:
        """The database for reading only, as it is: nothing is migrated, repaired or created. Raises `sqlite3.Error`."""
        path = self.home.database
        frozen = "&immutable=1" if _cannot_change(path) else ""
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro{frozen}", uri=True, timeout=5.0)
        try:
            connection.row_factory = sqlite3.Row
            yield connection
        finally:
            connection.close()

    def read(self, *parts: str) -> str | None:
        """The text of a file below `root`, or None where it cannot be read."""
        try:
            return self.root.joinpath(*parts).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None


def _cannot_change(database: Path) -> bool:
    """True on a read-only file system, where SQLite could not even make the files it wants beside a database."""
    try:
        frozen = bool(os.statvfs(database).f_flag & os.ST_RDONLY)
    except OSError:
        return False
    return frozen and not database.with_name(database.name + "-wal").exists()
