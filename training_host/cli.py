"""The `train-host` command: a group whose verbs are imported only when they are called."""

from __future__ import annotations

import importlib
import os
import sys

import click

from pi_agent import __version__
from pi_agent.contract.output import run, start_logging
from training_host.errors import HostNotInstalled

VERBS = {
    "demo": "The whole story end to end, with a table and a report.",
    "data": "Render the default data; look into a data set.",
    "train": "Train a victim or an independent model.",
    "watermark": "Make a key, embed it, file the claim.",
    "evaluate": "Accuracy of a model, per class.",
    "export": "ONNX for the Pi, fp32 or int8, parity checked.",
    "serve": "Serve a model behind a daily quota.",
    "distill": "Train a substitute from collected answers.",
    "score": "How close a substitute is to its victim.",
}


class LazyGroup(click.Group):
    """Lists its verbs from a table; imports a verb's module (and torch) on its first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order of the story."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb's module and return its `command`."""
        if cmd_name not in VERBS:
            return None
        try:
            command: click.Command = importlib.import_module(f"training_host.commands.{cmd_name}").command
        except ModuleNotFoundError as exc:
            if (exc.name or "").startswith(("training_host", "pi_agent")):
                raise
            raise HostNotInstalled(package=exc.name) from exc
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of verbs without importing one."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.command(cls=LazyGroup, epilog="Example: train-host demo --out demo-run")
@click.option("-v", "--verbose", is_flag=True, help="Log every step to stderr.")
@click.version_option(__version__, prog_name="train-host")
def cli(verbose: bool) -> None:
    """Train, mark, serve, steal (with permission) and score image models."""
    start_logging(verbose)


def main() -> None:
    """Entry point of the console script."""
    # Read when torch loads its threads, later. Threads that spin while they wait halve the speed on a shared machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(run(cli, "train-host"))


if __name__ == "__main__":
    main()
