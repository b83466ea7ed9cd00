"""`train-host select`: the next night's queries."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click

from pi_agent.contract.output import emit
from training_host.attacks.selecting import gather, look_at_output, select_job
from training_host.attacks.strategies import STRATEGIES
from training_host.commands.options import json_option, seed_option
from training_host.data.pool import list_pool, read_pool

_log = logging.getLogger(__name__)
_PATH = click.Path(path_type=Path)


@click.command(
    epilog="Example: train-host select --pool waste --answered night1.tar --substitute copy1 --size 700 "
    "--strategy magpie --out night2-batch.tar"
)
@click.option("--pool", "pool_path", required=True, type=_PATH, help="Pictures that may be asked: a folder or a zip.")
@click.option(
    "--substitute", "substitutes", multiple=True, type=_PATH, help="Model of an earlier round, the best one first."
)
@click.option("--answered", multiple=True, type=_PATH, help="Transfer set of an earlier night; may be repeated.")
@click.option("--size", required=True, type=click.IntRange(min=1), help="Queries to choose: the next night's quota.")
@click.option(
    "--strategy", "name", default="magpie", show_default=True, type=click.Choice(list(STRATEGIES)), metavar="NAME"
)
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="Batch to write (.tar).")
@click.option("--spare-held-out", is_flag=True, help="Never ask what `train` and `evaluate` hold out of the pool.")
@seed_option
@json_option
def command(
    pool_path: Path,
    substitutes: tuple[Path, ...],
    answered: tuple[Path, ...],
    size: int,
    name: str,
    out: Path,
    spare_held_out: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Choose the next night's queries from a pool of pictures, the most valuable first, as a batch for `pi-agent add`.

    Pictures that --answered knows are not asked again. Strategies: magpie (default), random, knockoff-random,
    knockoff-adaptive, copycat, kcenter, entropy, disagreement, dfal, mixmatch, jacobian. Those that need a
    --substitute choose at random without one. Where the class of a picture is known (class folders), magpie and
    knockoff-adaptive use it.

    The same command again finds its batch done. A file that holds anything else is not overwritten (73).
    """
    if out.suffix != ".tar":
        raise click.BadParameter(
            f"{str(out)!r} does not end with .tar: pi-agent would not see a batch in it", param_hint="--out"
        )
    look_at_output(out)
    known = gather(substitutes, answered)
    pictures = list_pool(pool_path, spare_held_out)
    with click.progressbar(length=len(pictures), label="reading the pool", file=sys.stderr) as bar:
        pool = read_pool(pictures, known.spec, bar.update)
    for picture, reason in pool.refused:
        _log.warning("%s left out: %s", picture, reason)
    with click.progressbar(length=size, label=f"choosing by {name}, then writing", file=sys.stderr) as bar:
        result = select_job(pool, known, STRATEGIES[name](), size, seed, out, bar.update)
    text = [
        f"{out}: {result['size']} queries by {name}: {result['plain']} plain, {result['augmented']} augmented, "
        f"{result['mixed']} mixed, {result['foreign']} foreign",
        f"pool: {result['pool']} pictures, {result['already_answered']} of them answered already",
    ]
    if result["size"] < size:
        text.append(f"the pool has no more than these for {name}; random, copycat and magpie go on with changed ones")
    emit("select", result, text, as_json=as_json)
