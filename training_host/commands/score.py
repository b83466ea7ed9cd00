"""`train-host score`: points of a substitute."""

from __future__ import annotations

from pathlib import Path

import click

from pi_agent.contract.output import emit, table
from training_host.commands.options import json_option
from training_host.predictor import load_predictor
from training_host.scoring import load_set, score_sets


@click.command(
    epilog="Example: train-host score substitute --victim victim --independent other --set standard=held-out"
)
@click.argument("substitute", type=click.Path(path_type=Path))
@click.argument("more", nargs=-1)
@click.option("--victim", required=True, type=click.Path(path_type=Path))
@click.option("--independent", "independents", required=True, multiple=True, type=click.Path(path_type=Path))
@click.option("--set", "sets", required=True, multiple=True, metavar="NAME=DIR", help="A picture set; may be repeated.")
@json_option
def command(
    substitute: Path,
    more: tuple[str, ...],
    victim: Path,
    independents: tuple[Path, ...],
    sets: tuple[str, ...],
    as_json: bool,
) -> None:
    """Mean L2 between score vectors, and points: an independent model is 0, a perfect copy 100.

    After --independent and --set further names may follow: --independent a b --set s=dir t=dir.
    """
    # What stands free after the first argument belongs to the option that came before it: NAME=DIR tells which.
    named = [*sets, *(m for m in more if "=" in m)]
    others = [*independents, *(Path(m) for m in more if "=" not in m)]
    folders = {}
    for text in named:
        name, separator, folder = text.partition("=")
        if not separator or not name or not folder:
            raise click.BadParameter(f"{text!r} is not NAME=DIR", param_hint="--set")
        folders[name] = Path(folder)
    model = load_predictor(substitute, threads=2)
    owner = load_predictor(victim, threads=2)
    images = {name: load_set(path, owner.manifest.input) for name, path in folders.items()}
    result = score_sets(model, owner, [load_predictor(p, threads=2) for p in others], images)
    rows = [
        (
            name,
            f"{r['l2']:.4f}",
            f"{r['l2_independent']:.4f}",
            f"{r['l2_mean_predictor']:.4f}",
            f"{100 * r['agreement']:.1f} %",
            f"{r['points']:+.1f}",
        )
        for name, r in result.items()
    ]
    emit(
        "score",
        {"sets": result},
        table(rows, ("set", "L2", "independent", "mean", "agreement", "points")),
        as_json=as_json,
    )
