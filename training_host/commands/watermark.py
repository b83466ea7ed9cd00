"""`train-host watermark`: key, embedding, claim."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pi_agent.contract.claim import WatermarkKey, load_key, new_key, rules_needed, save_key
from pi_agent.contract.errors import CannotCreate, ConfigError
from pi_agent.contract.manifest import InputSpec
from pi_agent.contract.output import emit
from training_host.commands.options import arch_option, epochs_option, json_option, seed_option
from training_host.jobs import open_output, read_parts, train_job
from training_host.output import epochs_bar
from training_host.training.loop import Recipe
from training_host.watermarks.carriers import carriers_of, write_carriers
from training_host.watermarks.claim import file_claim


@click.group(epilog="Example: train-host watermark keygen --classes glass metal paper plastic --out owner.key")
def command() -> None:
    """Make a secret key, embed its rules into a model, file the claim."""


@command.command(epilog="Example: train-host watermark keygen --classes glass metal paper plastic --out owner.key")
@click.option(
    "--classes", "first", required=True, multiple=True, help="Class names in the order of the model's scores."
)
@click.argument("more", nargs=-1)
@click.option("--rules", type=click.IntRange(1, 64), help="Default: enough to lose two and still reach alpha.")
@click.option("--alpha", type=click.FloatRange(1e-12, 0.05), default=1e-6, show_default=True)
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="Key file (0600).")
@json_option
def keygen(
    first: tuple[str, ...], more: tuple[str, ...], rules: int | None, alpha: float, out: Path, as_json: bool
) -> None:
    """Draw a secret key. Publish its commitment before you release the model; keep the file to yourself."""
    if out.exists():
        raise CannotCreate(
            path=out, reason="a file is there already", hint="a lost key is a lost claim: choose another name"
        )
    names = [name for text in (*first, *more) for name in text.split(",") if name]
    try:
        key = new_key(names, rules or rules_needed(len(names), alpha), alpha)
    except (ValueError, ZeroDivisionError) as exc:
        raise ConfigError(path="--classes", reason=str(exc), hint="name at least four distinct classes") from exc
    save_key(out, key)
    data = {"path": str(out), "commitment": key.commitment(), "rules": key.rules, "alpha": alpha, "classes": names}
    text = [f"key with {key.rules} rules over {len(names)} classes in {out}", f"commitment {key.commitment()}"]
    emit("watermark-keygen", data, text, as_json=as_json)


@command.command(epilog="Example: train-host watermark embed waste --key owner.key --out victim")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--key", "key_path", required=True, type=click.Path(path_type=Path), help="From watermark keygen.")
@arch_option
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Model folder to write.")
@epochs_option(60)
@seed_option
@json_option
def embed(data: Path, key_path: Path, arch: str, out: Path, epochs: int, seed: int, as_json: bool) -> None:
    """Train a model on DATA with the key's rules in it, and keep carriers for the claim beside it."""
    key = load_key(key_path)
    open_output(out)
    train, held_out = read_parts(data, InputSpec())
    write_carriers(out, carriers_of(data, key))
    with epochs_bar(epochs, "embedding") as show:
        manifest = train_job(train, held_out, arch, out, Recipe(epochs, seed=seed), show, key=key)
    result = {"path": str(out), "rules": key.rules, "commitment": key.commitment(), **manifest.metrics}
    accuracy = 100 * manifest.metrics["accuracy_held_out"]
    text = [f"{out}: {accuracy:.1f} % on {len(held_out)} held-out pictures", _mark_line(manifest.metrics, key)]
    emit("watermark-embed", result, text, as_json=as_json)


def _mark_line(metrics: dict[str, Any], key: WatermarkKey) -> str:
    """How well the mark took, in a sentence that says what to do when it did not."""
    if "rules_hit" not in metrics:
        return "the mark was not tried: a class has no held-out picture"
    line = f"{metrics['rules_hit']} of {key.rules} rules hold on fresh composites (p = {metrics['mark_p_value']:.2g})"
    return line if metrics["mark_p_value"] <= key.alpha else f"{line}: too weak for a claim; train for more epochs"


@command.command(epilog="Example: train-host watermark claim --key owner.key --model victim --out claim.json")
@click.option("--key", "key_path", required=True, type=click.Path(path_type=Path))
@click.option("--model", required=True, type=click.Path(path_type=Path, exists=True), help="The marked model folder.")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="Claim file to write.")
@json_option
def claim(key_path: Path, model: Path, out: Path, as_json: bool) -> None:
    """Bind key, model and carriers together into the file that `pi-agent verify --claim` reads."""
    filed = file_claim(load_key(key_path), model, out)
    data = {
        "path": str(out),
        "carriers": filed.carriers,
        "commitment": filed.commitment,
        "model_sha256": filed.model_sha256,
    }
    text = [f"claim in {out}, carriers in {out.parent / filed.carriers}", "it reveals the key: keep it until a dispute"]
    emit("watermark-claim", data, text, as_json=as_json)
