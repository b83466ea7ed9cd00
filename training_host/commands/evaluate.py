"""`train-host evaluate`: accuracy of a model."""

from __future__ import annotations

from pathlib import Path

import click

from pi_agent.contract.metrics import accuracy
from pi_agent.contract.output import emit, table
from training_host.commands.options import json_option
from training_host.data.arrays import load_labelled
from training_host.data.sources import HELD_OUT, find_pictures
from training_host.predictor import load_predictor


@click.command(epilog="Example: train-host evaluate victim waste --json")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--all", "everything", is_flag=True, help="All pictures instead of the held-out part.")
@json_option
def command(model: Path, data: Path, everything: bool, as_json: bool) -> None:
    """Accuracy of MODEL on the held-out pictures of DATA, in all and per class."""
    predictor = load_predictor(model, threads=2)
    pictures = [p for p in find_pictures(data) if everything or p.part == HELD_OUT]
    labelled = load_labelled(pictures, predictor.classes, predictor.manifest.input)
    scores = predictor.scores_of(labelled.images)
    per_class = {
        name: accuracy(scores[labelled.labels == i], labelled.labels[labelled.labels == i])
        for i, name in enumerate(predictor.classes)
        if (labelled.labels == i).any()
    }
    whole = accuracy(scores, labelled.labels)
    data_out = {"accuracy": whole, "pictures": len(labelled), "per_class": per_class}
    rows = [(name, f"{100 * value:.1f}") for name, value in per_class.items()]
    text = [f"accuracy {100 * whole:.1f} % on {len(labelled)} pictures", *table(rows, ("class", "%"))]
    emit("evaluate", data_out, text, as_json=as_json)
