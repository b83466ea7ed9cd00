"""A group of commands whose modules are imported only when they are called: loading torch takes seconds."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

from training_host.errors import HostNotInstalled


class LazyGroup(click.Group):
    """Lists its verbs from a table, in the order of the story; imports `<package>.<verb>` on its first use."""

    def __init__(self, *given: Any, package: str, verbs: Mapping[str, str], **more: Any) -> None:
        super().__init__(*given, **more)
        self._package, self._verbs = package, verbs

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs, as they stand in the table."""
        return list(self._verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb's module and return its `command`. Raises `HostNotInstalled` (78)."""
        if cmd_name not in self._verbs:
            return None
        try:
            command: click.Command = importlib.import_module(f"{self._package}.{cmd_name}").command
        except ModuleNotFoundError as exc:
            if (exc.name or "").startswith(("training_host", "pi_agent")):
                raise
            raise HostNotInstalled(package=exc.name) from exc
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of verbs without importing one."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._verbs.items()))
