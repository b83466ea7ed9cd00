"""`pi-agent verify`: whose model is this?"""

from __future__ import annotations

from pathlib import Path

import click

from pi_agent.commands.options import json_option
from pi_agent.contract.errors import Exit
from pi_agent.contract.output import emit, table
from pi_agent.verify import Verdict, verify_file

_EXIT = {"owned": Exit.OK, "not-owned": Exit.NEGATIVE, "inconclusive": Exit.INCONCLUSIVE}
_MEANING = {
    "owned": "it obeys the owner's secret rules; a stranger's model would do so with probability p at most",
    "not-owned": "it obeys no more of the owner's secret rules than a stranger's model may by chance",
    "inconclusive": "more rules hit than chance likes, too few for proof: look closer",
}


def _text(result: Verdict) -> list[str]:
    rows = [
        (f"{r.first} + {r.second}", r.geometry, r.target, f"{share:.2f}", "hit" if hit else "-")
        for r, share, hit in zip(result.rules, result.evidence.share, result.evidence.hit, strict=True)
    ]
    same = ["this is bit for bit the model that the claim was made for"] if result.is_claimed_model else []
    return [
        f"{result.verdict}: p = {result.evidence.p_value:.3g} (alpha {result.alpha:g}), "
        f"{result.evidence.hits} of {len(result.rules)} rules hit, {result.queries} queries, {result.seconds:.1f} s",
        _MEANING[result.verdict],
        *same,
        "",
        *table(rows, ("sources", "geometry", "target", "score", "")),
    ]


@click.command(epilog="Example: pi-agent verify suspect.onnx --claim claim.json")
@click.argument("suspect", type=click.Path(path_type=Path))
@click.option("--claim", required=True, type=click.Path(path_type=Path), help="The owner's claim file.")
@click.option(
    "--carriers", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Your own <class>/*.jpg."
)
@click.option(
    "--alpha", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="Instead of the claim's level."
)
@json_option
def command(suspect: Path, claim: Path, carriers: Path | None, alpha: float | None, as_json: bool) -> int:
    """Test an untrusted ONNX file for the owner's watermark, with an exact p-value.

    Exit 0: owned. 10: not owned. 11: inconclusive. 65: the file was refused.
    """
    result = verify_file(suspect, claim, carriers, alpha)
    data = {
        "verdict": result.verdict,
        "p_value": result.evidence.p_value,
        "p_floor": result.evidence.floor,
        "alpha": result.alpha,
        "rules": len(result.rules),
        "hits": result.evidence.hits,
        "queries": result.queries,
        "suspect_sha256": result.suspect_sha256,
        "claim_sha256": result.claim_sha256,
        "is_claimed_model": result.is_claimed_model,
        "seconds": round(result.seconds, 3),
    }
    emit("verify", data, _text(result), as_json=as_json)
    return int(_EXIT[result.verdict])
