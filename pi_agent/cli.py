"""The `pi-agent` command: a group whose verbs are imported only when they are called."""

from __future__ import annotations

import importlib
import sys

import click

from pi_agent import __version__
from pi_agent.contract.output import run, start_logging

VERBS = {
    "init": "Write config.toml: which oracle, which quota.",
    "add": "Queue images, folders or a query batch.",
    "collect": "Spend today's budget on the queue.",
    "query": "Ask about one image, cache first.",
    "budget": "What is left of today's quota.",
    "status": "Queue, cache, last run, disk and clock.",
    "export": "Write the answers as a transfer set.",
    "doctor": "What is wrong with this agent, and what to do.",
    "verify": "Test whether a model file was stolen from us.",
    "check": "Is a claim, a report or a verdict what was signed?",
    "dispute": "Two claims on one model: decide which was first.",
}


class LazyGroup(click.Group):
    """Lists its verbs from a table; imports a verb's module on its first use. Keeps `--help` instant on a Pi."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order of a night's work."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb's module and return its `command`."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"pi_agent.commands.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of verbs without importing one."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.command(
    cls=LazyGroup, no_args_is_help=False, epilog="Example: pi-agent init --url http://oracle:8000 --daily-quota 700"
)
@click.option("--home", type=click.Path(), help="Folder with config.toml, database and pictures. [env: PI_AGENT_HOME]")
@click.option("-v", "--verbose", is_flag=True, help="Log every step to stderr.")
@click.version_option(__version__, prog_name="pi-agent")
@click.pass_context
def cli(ctx: click.Context, home: str | None, verbose: bool) -> None:
    """Collect labels from a remote oracle inside a query budget, and verify whose model a file is.

    Use it only with the permission of the owner of the API.
    """
    start_logging(verbose)
    ctx.obj = home


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(cli, "pi-agent"))


if __name__ == "__main__":
    main()
