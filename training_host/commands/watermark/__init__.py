"""`train-host watermark`: key, embedding, claim."""

from __future__ import annotations

import click

from training_host.commands.watermark.claim import claim
from training_host.commands.watermark.embed import embed
from training_host.commands.watermark.keygen import keygen


class InOrder(click.Group):
    """Lists its verbs in the order of the story."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """As they were added."""
        return list(self.commands)


@click.group(
    cls=InOrder, epilog="Example: train-host watermark keygen --classes glass metal paper plastic --out owner.key"
)
def command() -> None:
    """Make a secret key, embed its rules into a model, file the claim.

    What to publish, and when: the commitment that keygen writes, at once; the hash that claim prints, before the model
    is released. Key and claim stay with you until there is a dispute.
    """


for verb in (keygen, embed, claim):
    command.add_command(verb)
