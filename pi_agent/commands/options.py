"""Options that several verbs share."""

from __future__ import annotations

import sys
from typing import Any

import click

json_option = click.option(
    "--json", "as_json", is_flag=True, help="One JSON object on stdout, errors as JSON on stderr."
)


def progress_bar(length: int, label: str) -> Any:
    """A bar on stderr, and only on a terminal: a log wants none."""
    return click.progressbar(length=length, label=label, file=sys.stderr, hidden=not sys.stderr.isatty())
