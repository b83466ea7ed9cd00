"""Where the agent lives: one home folder with configuration, database and pictures."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from pi_agent.contract.errors import from_write_error


@dataclass(frozen=True)
class Home:
    """The agent's folder and what is where in it."""

    folder: Path

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.folder / "config.toml"

    @property
    def database(self) -> Path:
        """Ledger, queue and answers."""
        return self.folder / "agent.db"

    @property
    def images(self) -> Path:
        """The prepared pictures, by hash."""
        return self.folder / "images"

    @property
    def lock(self) -> Path:
        """Held by whoever may spend queries."""
        return self.folder / "spender.lock"

    def create(self) -> Home:
        """Make the folder (0700). Raises `CannotCreate` (73)."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.images.mkdir(mode=0o700, exist_ok=True)
        except OSError as exc:
            raise from_write_error(exc, self.folder) from exc
        return self


def find_home(flag: str | None) -> Home:
    """--home > $PI_AGENT_HOME > systemd's $STATE_DIRECTORY > XDG state folder."""
    for value in (flag, os.environ.get("PI_AGENT_HOME"), os.environ.get("STATE_DIRECTORY", "").split(":")[0]):
        if value:
            return Home(Path(value).expanduser().absolute())
    return Home(Path(platformdirs.user_state_dir("pi-agent")))
