"""The `train-host` command: a group whose verbs are imported only when they are called."""

from __future__ import annotations

import os
import sys

import click

from pi_agent import __version__
from pi_agent.contract.output import run, start_logging
from training_host.lazy import LazyGroup

VERBS = {
    "demo": "The whole story end to end, with a table and a report.",
    "data": "Render the default data; look into a data set.",
    "train": "Train a victim or an independent model.",
    "watermark": "Make a key, embed it, file the claim.",
    "evaluate": "Accuracy of a model, per class.",
    "export": "ONNX for the Pi, fp32 or int8, parity checked.",
    "serve": "Serve a model behind a daily quota.",
    "probe": "Find out how the oracle makes pictures small.",
    "select": "Choose the next night's queries.",
    "distill": "Train a substitute from collected answers.",
    "score": "How close a substitute is to its victim.",
}


@click.group(
    cls=LazyGroup,
    package="training_host.commands",
    verbs=VERBS,
    epilog="Example: train-host demo --out demo-run",
)
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
