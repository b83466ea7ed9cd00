"""`train-host data`: the default data, and what a data set holds."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import click

from pi_agent.contract.output import emit, table
from pi_agent.contract.transfer_set import read_transfer_set
from training_host.commands.options import json_option, seed_option
from training_host.data.make import make_data
from training_host.data.sources import HELD_OUT, TRAIN, find_pictures
from training_host.data.waste import CLASSES


@click.group(epilog="Example: train-host data make waste --per-class 150")
def command() -> None:
    """Render the default data; look into a data set."""


@command.command(epilog="Example: train-host data make waste --seed 1 --per-class 150")
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--per-class", type=click.IntRange(1, 100_000), default=150, show_default=True)
@seed_option
@json_option
def make(out: Path, per_class: int, seed: int, as_json: bool) -> None:
    """Render the 12 RecycleMe classes as pictures, <class>/<number>.jpg."""
    stderr = sys.stderr
    with click.progressbar(length=per_class * len(CLASSES), label="rendering", file=stderr) as bar:
        count = make_data(out, seed, per_class, bar.update)
    data = {"path": str(out), "pictures": count, "classes": list(CLASSES), "seed": seed}
    emit("data-make", data, [f"{count} pictures of {len(CLASSES)} classes in {out}"], as_json=as_json)


@command.command(epilog="Example: train-host data info waste.zip")
@click.argument("path", type=click.Path(path_type=Path))
@json_option
def info(path: Path, as_json: bool) -> None:
    """Say what a folder, a zip or a transfer set holds."""
    if path.suffix == ".tar":
        items = list(read_transfer_set(path))
        counts = Counter(item.classes[int(item.mean.argmax())] for item in items)
        answers = sum(len(item.vectors) for item in items)
        data = {"kind": "transfer-set", "images": len(items), "answers": answers, "labels": dict(counts)}
        rows = [(name, counts[name]) for name in items[0].classes]
        text = [f"transfer set: {len(items)} images, {answers} answers", *table(rows, ("answered as", "images"))]
    else:
        pictures = find_pictures(path)
        parts = {part: Counter(p.label for p in pictures if p.part == part) for part in (TRAIN, HELD_OUT)}
        names = sorted({p.label for p in pictures})
        data = {
            "kind": "labelled",
            "images": len(pictures),
            "classes": {n: parts[TRAIN][n] + parts[HELD_OUT][n] for n in names},
        }
        shares = [(n, parts[TRAIN][n], parts[HELD_OUT][n]) for n in names]
        text = [f"{len(pictures)} pictures of {len(names)} classes", *table(shares, ("class", TRAIN, HELD_OUT))]
    emit("data-info", data, text, as_json=as_json)
