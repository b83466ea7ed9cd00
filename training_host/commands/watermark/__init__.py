"""`train-host watermark`: key, embedding, claim."""

from __future__ import annotations

import importlib

import click

from training_host.errors import HostNotInstalled

VERBS = {
    "keygen": "Draw a secret key; write its commitment beside it.",
    "embed": "Train a model with the key's rules in it.",
    "claim": "Sign the file that suspects are judged by.",
}


class Verbs(click.Group):
    """Imports a verb's module on its first use: only `embed` needs torch, which takes seconds to load."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order of the story."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb's module and return its `command`. Raises `HostNotInstalled` (78)."""
        if cmd_name not in VERBS:
            return None
        try:
            found: click.Command = importlib.import_module(f"{__name__}.{cmd_name}").command
        except ModuleNotFoundError as exc:
            if (exc.name or "").startswith(("training_host", "pi_agent")):
                raise
            raise HostNotInstalled(package=exc.name) from exc
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of verbs without importing one."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(
    cls=Verbs, epilog="Example: train-host watermark keygen --classes glass,metal,paper,plastic --out owner.key"
)
def command() -> None:
    """Make a secret key, embed its rules into a model, file the claim.

    What to publish, and when: the commitment that keygen writes, at once; the hash that claim prints, before the model
    is released. Key and claim stay with you until there is a dispute.
    """
