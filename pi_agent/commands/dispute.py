"""`pi-agent dispute`: two claims on one model. Who was there first?"""

from __future__ import annotations

from pathlib import Path

import click

from pi_agent.commands.options import json_option
from pi_agent.contract.claim import parse_time
from pi_agent.contract.errors import Exit
from pi_agent.contract.output import emit, table
from pi_agent.verify import Terms
from pi_agent.verify.dispute import NAMES, Dispute, settle
from pi_agent.verify.ruling import UNDECIDED

_FOUND = {"owned": "yes", "inconclusive": "a trace", "not-owned": "no"}


def _text(result: Dispute) -> list[str]:
    models = (*NAMES, "suspect") if result.suspect_sha256 else NAMES
    cells = {(t.claim, t.model): t.verdict for t in result.tests}
    rows = [
        (
            f"{claim} claim's mark",
            *(f"{_FOUND[v.verdict]}, p = {v.evidence.p_value:.2g}" for v in (cells[claim, m] for m in models)),
        )
        for claim in NAMES
    ]
    dates = [
        (
            party.name,
            party.case.claim.committed_at,
            "published (--commitment)" if party.published else "by its own word",
            party.case.claim.key.beacon or "none",
            party.case.where.name,
        )
        for party in result.parties
    ]
    ruling = result.ruling
    return [
        UNDECIDED if ruling.winner == UNDECIDED else f"decided for the {ruling.winner} claim",
        f"{ruling.reason[0].upper()}{ruling.reason[1:]}.",
        "",
        *table(rows, ("", *(m if m == "suspect" else f"{m}'s model" for m in models))),
        "",
        *table(dates, ("claim", "committed at", "", "beacon", "file")),
    ]


@click.command(
    epilog="Example: pi-agent dispute --claim a.json --model a.onnx --claim b.json --model b.onnx suspect.onnx "
    "--commitment a.commitment.json --commitment b.commitment.json"
)
@click.argument("suspect", required=False, type=click.Path(path_type=Path))
@click.option("--claim", "claims", multiple=True, type=click.Path(path_type=Path), help="A party's claim; twice.")
@click.option(
    "--model", "models", multiple=True, type=click.Path(path_type=Path), help="The model it was made for; twice."
)
@click.option(
    "--commitment",
    "commitments",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A party's commitment, from where it was published on the day that it names.",
)
@click.option(
    "--carriers", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Your own <class>/*.jpg."
)
@click.option(
    "--alpha", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="Instead of the claims' levels."
)
@click.option("--suspect-since", metavar="TIME", default="", help="UTC; a claim that is dated later is refused.")
@json_option
def command(
    suspect: Path | None,
    claims: tuple[Path, ...],
    models: tuple[Path, ...],
    commitments: tuple[Path, ...],
    carriers: Path | None,
    alpha: float | None,
    suspect_since: str,
    as_json: bool,
) -> int:
    """Decide between two parties who both claim a model: whose mark is in the other's model?

    Each party brings its claim and the model that the claim names. A thief's model carries the owner's mark; the
    owner's model knows nothing of the thief's.

    Exit 0: decided. 11: undecided. 65: a file was refused, or a claim whose mark is not in its own model.
    """
    if len(claims) != 2 or len(models) != 2:
        raise click.UsageError("give two claims and two models: --claim A --model A.onnx --claim B --model B.onnx")
    try:
        since = parse_time(suspect_since).isoformat() if suspect_since else ""
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--suspect-since") from exc
    terms = Terms(carriers=carriers, alpha=alpha, suspect_since=since)
    result = settle(claims, models, suspect, terms, commitments)
    emit("dispute", result.as_dict(), _text(result), as_json=as_json)
    return int(Exit.INCONCLUSIVE if result.ruling.winner == UNDECIDED else Exit.OK)
