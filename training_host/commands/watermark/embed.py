"""`train-host watermark embed`: train a marked model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pi_agent.contract.claim import WatermarkKey, load_key
from pi_agent.contract.files import make_folder
from pi_agent.contract.manifest import InputSpec
from pi_agent.contract.output import emit
from pi_agent.contract.signed import load_signer
from training_host.commands.options import arch_option, epochs_option, json_option, seed_option
from training_host.jobs import read_parts, train_job
from training_host.output import epochs_bar
from training_host.training.loop import Recipe
from training_host.watermarks.carriers import carriers_of, pack, write_carriers
from training_host.watermarks.deliverables import begin, check_data, deliver
from training_host.watermarks.keys import (
    COMMITMENT,
    KeyFiles,
    bind,
    check_beacon,
    committed_carriers,
    complete_commitment,
)
from training_host.watermarks.scripts import Embedding

_GENTLE = 3e-4
"""The learning rate's peak where a trained model is marked: a seventh of that for a new one."""


@click.command(
    epilog="Example: train-host watermark embed waste --key owner.key --out victim",
)
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--key", "key_path", required=True, type=click.Path(path_type=Path), help="From watermark keygen.")
@click.option("--beacon-value", help="What the beacon said that the key was committed to, as it was published.")
@arch_option
@click.option(
    "--start",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A trained model folder of the same architecture: mark it, instead of training a new one.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Model folder to write.")
@epochs_option(60)
@seed_option
@json_option
def command(
    data: Path,
    key_path: Path,
    beacon_value: str | None,
    arch: str,
    start: Path | None,
    out: Path,
    epochs: int,
    seed: int,
    as_json: bool,
) -> None:
    """Train a model on DATA with the key's rules in it, and keep carriers for the claim beside it.

    The rules are drawn from the key, the carriers and the beacon's value together. Carriers are the ordinary pictures
    that suspects will be tested with: those of the commitment, or else held-out pictures of DATA. In that case the
    commitment is complete only now, and commitment.json in the model folder is the file to publish.

    Beside the model come triggers/ and report.html, which reveal the key, and the scripts train.sh and evaluate.sh.
    Interrupted, the same command goes on where it was.
    """
    given = load_key(key_path)
    value = check_beacon(given, beacon_value)
    committed = committed_carriers(KeyFiles(key_path), given)
    recipe = Recipe(epochs, max_lr=_GENTLE, seed=seed) if start else Recipe(epochs, seed=seed)
    embedding = Embedding(data, key_path, out, arch, recipe, start, value)
    manifest = begin(embedding, given)
    train, held_out = read_parts(data, InputSpec())
    carriers = committed or pack(carriers_of(data, given.classes))
    key, completed = bind(given, carriers, value), committed is None
    trained = manifest is None
    if manifest is not None:
        check_data(embedding, key, len(train), manifest)
    else:
        write_carriers(make_folder(out), carriers)
        if completed:
            key = complete_commitment(out, key, load_signer(key_path))
        with epochs_bar(epochs, "embedding") as show:
            manifest = train_job(train, held_out, arch, out, recipe, show, key=key, start=start)
    paths = deliver(embedding, given, train, held_out, completed=completed)
    result = {
        "path": str(out),
        "trained": trained,
        "rules": key.rules,
        "commitment": key.commitment(),
        "commitment_path": str(out / COMMITMENT) if completed else str(KeyFiles(key_path).commitment),
        "carriers_sha256": key.carriers,
        "beacon": key.beacon,
        "beacon_value": key.beacon_value,
        **manifest.metrics,
        **paths,
    }
    emit("watermark-embed", result, _lines(result, key, len(held_out), completed), as_json=as_json)


def _lines(result: dict[str, Any], key: WatermarkKey, held_out: int, completed: bool) -> list[str]:
    """The result for people. `held_out`: pictures; `completed`: this embedding made the commitment complete."""
    out = result["path"]
    again = [] if result["trained"] else [f"{out} was trained already: only what was missing beside the model is new"]
    accuracy = f"{out}: {100 * result['accuracy_held_out']:.1f} % on {held_out} held-out pictures"
    lines = [*again, accuracy, _mark_line(result, key)]
    if completed:
        lines.append(f"commitment in {result['commitment_path']}: publish this file before you release the model")
        lines.append(f"commitment {result['commitment']}")
    secret = f"triggers in {result['triggers']}, report in {result['report']}"
    lines.append(f"{secret}: both reveal the key, keep them as you keep it")
    lines.append(f"{result['train_script']} embeds it again")
    lines.append(f"{result['evaluate_script']} files the claim and tests the model")
    return lines


def _mark_line(metrics: dict[str, Any], key: WatermarkKey) -> str:
    """How well the mark took, in a sentence that says what to do when it did not."""
    if "rules_hit" not in metrics:
        return "the mark was not tried: a class has no held-out picture"
    line = f"{metrics['rules_hit']} of {key.rules} rules hold on fresh composites (p = {metrics['mark_p_value']:.2g})"
    if metrics["mark_p_value"] <= key.alpha:
        return line
    if metrics.get("mark_floor", 0.0) > key.alpha:
        return f"{line}: this key has too few rules for its alpha; make one with more"
    return f"{line}: too weak for a claim; train for more epochs"
