"""`train-host watermark claim`: the file that a suspect is judged by."""

from __future__ import annotations

from pathlib import Path

import click

from pi_agent.contract.claim import load_key
from pi_agent.contract.files import sha256_hex
from pi_agent.contract.output import emit
from pi_agent.contract.signed import load_signer
from training_host.commands.options import json_option
from training_host.watermarks.claim import file_claim


@click.command(
    epilog="Example: train-host watermark claim --key owner.key --model victim --out claim.json",
)
@click.option("--key", "key_path", required=True, type=click.Path(path_type=Path), help="The key that was embedded.")
@click.option("--model", required=True, type=click.Path(path_type=Path, exists=True), help="The marked model folder.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="Claim file to write (0600)."
)
@json_option
def command(key_path: Path, model: Path, out: Path, as_json: bool) -> None:
    """Bind key, model and carriers together into the signed file that `pi-agent verify --claim` reads.

    It reveals the key: keep it until a dispute. Its hash reveals nothing and dates the model: publish it before the
    model is released.
    """
    filed = file_claim(load_key(key_path), load_signer(key_path), model, out)
    digest = sha256_hex(out.read_bytes())
    data = {
        "path": str(out),
        "claim_sha256": digest,
        "carriers": filed.carriers,
        "carriers_sha256": filed.carriers_sha256,
        "commitment": filed.commitment,
        "model_sha256": filed.model_sha256,
        "queries_per_rule": filed.queries_per_rule,
    }
    text = [
        f"claim in {out}, carriers in {out.parent / filed.carriers}: it reveals the key, keep it until a dispute",
        f"claim sha256 {digest}",
        "publish this hash, too, before you release the model: it dates the model",
    ]
    emit("watermark-claim", data, text, as_json=as_json)
