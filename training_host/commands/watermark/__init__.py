"""`train-host watermark`: key, embedding, claim."""

from __future__ import annotations

import click

from training_host.lazy import LazyGroup

VERBS = {
    "keygen": "Draw a secret key; write its commitment beside it.",
    "embed": "Train a model with the key's rules in it.",
    "claim": "Sign the file that suspects are judged by.",
    "evaluate": "Attack a marked model in every known way; see what is left of the mark.",
}


@click.group(
    cls=LazyGroup,
    package=__name__,
    verbs=VERBS,
    epilog="Example: train-host watermark keygen --classes glass,metal,paper,plastic --carriers waste --out owner.key",
)
def command() -> None:
    """Make a secret key, embed its rules into a model, file the claim.

    What to publish, and when: the commitment that keygen --carriers writes, at once; the hash that claim prints,
    before the model is released. Key and claim stay with you until there is a dispute.
    """
