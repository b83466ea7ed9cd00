"""`train-host train`: a victim or an independent model."""

from __future__ import annotations

from pathlib import Path

import click

from pi_agent.contract.manifest import InputSpec
from pi_agent.contract.output import emit
from training_host.commands.options import (
    arch_option,
    beginning,
    epochs_option,
    json_option,
    resize_option,
    seed_option,
)
from training_host.jobs import check_output, read_parts, train_job
from training_host.output import epochs_bar
from training_host.training.loop import Recipe


@click.command(epilog="Example: train-host train waste --arch recycleme --out victim --epochs 60")
@click.argument("data", type=click.Path(path_type=Path))
@arch_option
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Model folder to write.")
@epochs_option(60)
@resize_option(InputSpec.resize)
@seed_option
@json_option
def command(data: Path, arch: str, out: Path, epochs: int, resize: str | None, seed: int, as_json: bool) -> None:
    """Train on the training part of DATA and measure on its held-out part. Interrupted, it goes on where it was."""
    check_output(out)
    spec = InputSpec(resize=resize or InputSpec.resize)
    train, held_out = read_parts(data, spec)
    with epochs_bar(epochs, "training") as show:
        manifest = train_job(train, held_out, arch, out, Recipe(epochs, seed=beginning("train", seed)), show, spec=spec)
    result = {"path": str(out), "onnx_sha256": manifest.onnx_sha256, **manifest.metrics}
    text = [f"{out}: {100 * manifest.metrics['accuracy_held_out']:.1f} % on {len(held_out)} held-out pictures"]
    emit("train", result, text, as_json=as_json)
