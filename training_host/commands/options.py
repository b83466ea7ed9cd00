"""Options and argument forms that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from pi_agent.contract.manifest import RESIZE_FILTERS
from training_host.nets.names import WIDTHS

Command = TypeVar("Command", bound=Callable[..., Any])

json_option = click.option(
    "--json", "as_json", is_flag=True, help="One JSON object on stdout, errors as JSON on stderr."
)
arch_option = click.option(
    "--arch",
    type=click.Choice(list(WIDTHS)),
    default="recycleme",
    show_default=True,
    help="Network architecture.",
)
seed_option = click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same result.")


_APART = {"train": 10**9, "distill": 2 * 10**9}
"""Added to the seeds of these verbs; those of `embed` and of the demo, the usual victims, are as they were given."""


def beginning(verb: str, seed: int) -> int:
    """The seed of a training by `verb`, "train" or "distill", with this `--seed`: no two verbs begin alike.

    A copy that begins where its victim began comes six points nearer (ADR 16). No adversary knows that beginning; but
    `--seed` is 0 for everybody who does not say otherwise.
    """
    return _APART[verb] + seed


def epochs_option(default: int) -> Callable[[Command], Command]:
    """`--epochs` with its verb's own default."""
    return click.option("--epochs", type=click.IntRange(min=1), default=default, show_default=True)


def resize_option(default: str) -> Callable[[Command], Command]:
    """`--resize`, None where it is not given; `default` says what that means."""
    return click.option(
        "--resize",
        type=click.Choice(RESIZE_FILTERS),
        help=f"How pictures are made small; `probe` finds out what an oracle does. [default: {default}]",
    )
