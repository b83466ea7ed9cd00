"""`train-host watermark keygen`: a secret key and its public commitment."""

from __future__ import annotations

from pathlib import Path

import click

from pi_agent.contract.claim import WatermarkKey
from pi_agent.contract.claim.p_value import DECISIONS
from pi_agent.contract.output import emit
from pi_agent.contract.signed import load_signer, new_signer
from training_host.commands.options import json_option
from training_host.watermarks.carriers import carriers_of, pack
from training_host.watermarks.keys import KeyFiles, Terms, draw_key, save_key_files


def _not_empty(_: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not value.strip():
        raise click.BadParameter("it is empty", param=parameter)
    return value.strip() if value else value


@click.command(
    epilog="Example: train-host watermark keygen --classes glass,metal,paper,plastic --out owner.key",
)
@click.option(
    "--classes", "first", required=True, multiple=True, help="Class names in the order of the model's scores."
)
@click.argument("more", nargs=-1)
@click.option(
    "--rules", type=click.IntRange(1, 64), help="How many. Default: enough to lose two and still reach alpha."
)
@click.option(
    "--alpha",
    type=click.FloatRange(1e-12, 0.05),
    default=1e-6,
    show_default=True,
    help="The claim will say `owned` where the p-value is at most this.",
)
@click.option(
    "--decision",
    type=click.Choice(list(DECISIONS)),
    default="holm",
    show_default=True,
    help="What decides: the number of rules obeyed (rule-hits), or how much answers to composites and to ordinary "
    "pictures lean towards the rules' targets, corrected for two tests (holm).",
)
@click.option(
    "--carriers",
    type=click.Path(path_type=Path, exists=True),
    help="<class>/*.jpg, or a data set: fix the test pictures now, in the commitment.",
)
@click.option(
    "--beacon",
    callback=_not_empty,
    help="Public randomness that does not exist yet, in words, as `drand quicknet round 12345678`; needs --carriers.",
)
@click.option(
    "--owner",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Another key file, to sign as the same owner. Default: a new signing key.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="Key file to write (0600).")
@json_option
def command(
    first: tuple[str, ...],
    more: tuple[str, ...],
    rules: int | None,
    alpha: float,
    decision: str,
    carriers: Path | None,
    beacon: str | None,
    owner: Path | None,
    out: Path,
    as_json: bool,
) -> None:
    """Draw a secret key, and write its commitment beside it.

    The commitment fixes all that you decide, and tells nothing about the rules. With --carriers it is complete: publish
    that file today. Without, `watermark embed` chooses the test pictures and writes the complete one. It must be public
    before the suspect exists, or a judge will say that the key was made to fit the suspect. Keep the key to yourself.
    """
    files = KeyFiles(out)
    files.must_be_free()
    names = tuple(name for text in (*first, *more) for name in text.split(",") if name)
    terms = Terms(names, rules, alpha, decision, beacon or "")
    terms.check(with_carriers=carriers is not None)
    signer = load_signer(owner) if owner else new_signer()
    packed = pack(carriers_of(carriers, names, fill=True)) if carriers else None
    key = draw_key(terms, signer, packed)
    save_key_files(files, key, signer, packed)
    data = {
        "path": str(out),
        "commitment": key.commitment(),
        "commitment_path": str(files.commitment),
        "rules": key.rules,
        "alpha": key.alpha,
        "decision": key.decision,
        "classes": list(key.classes),
        "owner": key.owner,
        "complete": bool(key.carriers),
        "carriers_sha256": key.carriers,
        "carriers_path": str(files.carriers) if packed else "",
        "beacon": key.beacon,
    }
    emit("watermark-keygen", data, _text(key, files), as_json=as_json)


def _text(key: WatermarkKey, files: KeyFiles) -> list[str]:
    lines = [f"key with {key.rules} rules over {len(key.classes)} classes in {files.key}: keep it to yourself"]
    if key.carriers:
        lines += [
            f"commitment in {files.commitment}: publish this file today",
            f"commitment {key.commitment()}",
            f"test pictures in {files.carriers}, fixed by the commitment: keep them beside the key",
        ]
    else:
        lines += [
            f"commitment in {files.commitment}: not complete, the test pictures are not fixed yet",
            f"commitment {key.commitment()}",
            "watermark embed will choose them and write the complete commitment, which is the one to publish",
        ]
    if key.beacon:
        lines.append(f"wait for {key.beacon}; then give its value to watermark embed --beacon-value")
    return lines
