"""`train-host probe`: how does the oracle make pictures small?"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import numpy as np

from pi_agent.contract.errors import CannotCreate
from pi_agent.contract.manifest import RESIZE_FILTERS, InputSpec
from pi_agent.contract.output import emit, table
from training_host.attacks.resize_probes import choose_pictures, make_probes
from training_host.attacks.resize_verdict import judge_probes
from training_host.commands.options import json_option, seed_option
from training_host.data.batch import write_batch
from training_host.data.pool import list_pool, read_pool

_PATH = click.Path(path_type=Path)


@click.group(epilog="Example: train-host probe make --pool waste --out probes.tar")
def command() -> None:
    """Find out how the oracle makes pictures small, for `--resize` of `train` and `distill`."""


@command.command(epilog="Example: train-host probe make --pool waste --out probes.tar")
@click.option("--pool", "pool_path", required=True, type=_PATH, help="Pictures of the task: a folder or a zip.")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="Batch to write (.tar).")
@click.option(
    "--pictures",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help=f"Ordinary pictures; each costs {len(RESIZE_FILTERS) + 1} queries.",
)
@seed_option
@json_option
def make(pool_path: Path, out: Path, pictures: int, seed: int, as_json: bool) -> None:
    """Write the probes as a batch for `pi-agent add`.

    For every filter there is a picture that looks as before through this filter and is full of noise through all
    others.
    """
    if out.suffix != ".tar":
        reason = f"{str(out)!r} does not end with .tar: pi-agent would not see a batch in it"
        raise click.BadParameter(reason, param_hint="--out")
    if out.exists() or out.is_symlink():
        raise CannotCreate(path=out, reason="it exists already", hint="give another --out, or remove it")
    spec, rng = InputSpec(), np.random.default_rng(seed)
    found = list_pool(pool_path)
    with click.progressbar(length=len(found), label="reading the pool", file=sys.stderr) as bar:
        pool = read_pool(found, spec, bar.update)
    chosen = choose_pictures(pool, pictures, rng)
    with click.progressbar(length=len(chosen) * len(RESIZE_FILTERS), label="hiding", file=sys.stderr) as bar:
        count = write_batch(out, make_probes(pool, chosen, spec.size, rng, bar.update), {"probes": "resize"})
    data = {"path": str(out), "queries": count, "pictures": len(chosen), "filters": list(RESIZE_FILTERS)}
    text = f"{out}: {count} queries, probes for {len(RESIZE_FILTERS)} filters on {len(chosen)} pictures"
    emit("probe-make", data, [text], as_json=as_json)


@command.command(epilog="Example: train-host probe judge night0.tar --probes probes.tar")
@click.argument("transfer", nargs=-1, required=True, type=_PATH)
@click.option("--probes", required=True, type=_PATH, help="The batch that `probe make` wrote.")
@json_option
def judge(transfer: tuple[Path, ...], probes: Path, as_json: bool) -> None:
    """Say which filter the answers speak for."""
    verdict = judge_probes(probes, transfer)
    data = {"filter": verdict.filter, "distances": verdict.distances, "pictures": verdict.pictures}
    rows = [(name, f"{verdict.distances[name]:.3f}") for name in verdict.ranking]
    if verdict.filter:
        said = f"the oracle makes pictures small with: {verdict.filter}; give --resize {verdict.filter}"
    else:
        first, second = verdict.ranking[:2]
        said = f"undecided: {first} and {second} are too close, or the oracle has a filter that is none of these"
    text = [*table(rows, ("filter", "its probes change the answers by (L2)")), f"on {verdict.pictures} pictures", said]
    emit("probe-judge", data, text, as_json=as_json)
