"""`train-host distill`: a substitute from collected answers."""

from __future__ import annotations

from pathlib import Path

import click

from pi_agent.contract.manifest import InputSpec
from pi_agent.contract.output import emit
from training_host.commands.options import arch_option, epochs_option, json_option, seed_option
from training_host.data.arrays import load_transfer_sets
from training_host.jobs import distill_job, open_output
from training_host.output import epochs_bar
from training_host.training.loop import Recipe


@click.command(epilog="Example: train-host distill monday.tar tuesday.tar --arch recycleme --out substitute")
@click.argument("transfer", nargs=-1, required=True, type=click.Path(path_type=Path))
@arch_option
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Model folder to write.")
@click.option("--budget", type=click.IntRange(min=1), help="Use only the first so many images.")
@epochs_option(60)
@seed_option
@json_option
def command(
    transfer: tuple[Path, ...], arch: str, out: Path, budget: int | None, epochs: int, seed: int, as_json: bool
) -> None:
    """Train a network to repeat the oracle's score vectors. Interrupted, it goes on where it was."""
    open_output(out)
    spec = InputSpec()
    data = load_transfer_sets(transfer, spec, budget)
    with epochs_bar(epochs, "distilling") as show:
        manifest = distill_job(data, arch, out, Recipe(epochs, seed=seed), show, spec)
    result = {"path": str(out), "queries": len(data.images), "onnx_sha256": manifest.onnx_sha256, **manifest.metrics}
    agreement = 100 * manifest.metrics["agreement_on_transfer_set"]
    text = [f"{out}: substitute from {len(data.images)} answers, agrees on {agreement:.1f} % of them"]
    emit("distill", result, text, as_json=as_json)
