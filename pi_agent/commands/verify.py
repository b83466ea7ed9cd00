"""`pi-agent verify`: whose model is this?"""

from __future__ import annotations

import signal
from dataclasses import asdict
from pathlib import Path

import click

from pi_agent.commands.options import json_option
from pi_agent.contract.errors import Exit
from pi_agent.contract.output import emit, table
from pi_agent.inbox import judge_inbox
from pi_agent.verify import Case, Verdict, open_case, verify_file

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
@click.argument("suspect", required=False, type=click.Path(path_type=Path))
@click.option("--claim", required=True, type=click.Path(path_type=Path), help="The owner's claim file.")
@click.option(
    "--carriers", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Your own <class>/*.jpg."
)
@click.option(
    "--alpha", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="Instead of the claim's level."
)
@click.option(
    "--inbox",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Instead of SUSPECT: every *.onnx in this folder that has no verdict yet.",
)
@click.option(
    "--verdicts",
    type=click.Path(path_type=Path, file_okay=False),
    help="With --inbox: where <sha256>.json is kept for each; one folder for each claim.",
)
@json_option
def command(
    suspect: Path | None,
    claim: Path,
    carriers: Path | None,
    alpha: float | None,
    inbox: Path | None,
    verdicts: Path | None,
    as_json: bool,
) -> int:
    """Test an untrusted ONNX file for the owner's watermark, with an exact p-value.

    Exit 0: owned. 10: not owned. 11: inconclusive. 65: the file was refused.

    With --inbox: exit 0 when every file has its verdict, 75 when one is still being copied.
    """
    if (suspect is None) == (inbox is None) or (inbox is None) != (verdicts is None):
        raise click.UsageError("give either SUSPECT, or --inbox together with --verdicts")
    if inbox is not None and verdicts is not None:
        return _inbox(inbox, verdicts, open_case(claim, carriers, alpha), as_json)
    assert suspect is not None
    result = verify_file(suspect, claim, carriers, alpha)
    emit("verify", result.as_dict(), _text(result), as_json=as_json)
    return int(_EXIT[result.verdict])


def _inbox(inbox: Path, verdicts: Path, case: Case, as_json: bool) -> int:
    signal.signal(signal.SIGTERM, _terminated)
    report = judge_inbox(inbox, verdicts, case)
    rows = [(found["file"], found["verdict"], found["sha256"]) for found in report.judged]
    text = [
        f"{len(rows)} judged, {len(report.known)} known already, {len(report.skipped)} left alone",
        *(["", *table(rows, ("file", "verdict", "sha256"))] if rows else []),
        *(f"left alone: {name}: {reason}" for name, reason in sorted(report.skipped.items())),
    ]
    emit("verify-inbox", {"inbox": str(inbox), "verdicts": str(verdicts), **asdict(report)}, text, as_json=as_json)
    if problem := report.problem():
        raise problem
    return Exit.OK


def _terminated(*_: object) -> None:
    raise KeyboardInterrupt  # systemd's stop: end as tidily as after Ctrl-C
