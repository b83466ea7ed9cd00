"""`pi-agent verify`: whose model is this?"""

from __future__ import annotations

import signal
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from pi_agent.commands.options import json_option
from pi_agent.commands.reporting import Paperwork, report_options
from pi_agent.commands.verdict_text import text_of
from pi_agent.contract.claim import parse_time
from pi_agent.contract.errors import Exit
from pi_agent.contract.output import emit, table
from pi_agent.inbox import judge_inbox
from pi_agent.verify import Case, Manner, Terms, open_case
from pi_agent.verify.report import Outputs
from pi_agent.verify.stored import judge_answers

_EXIT = {"owned": Exit.OK, "not-owned": Exit.NEGATIVE, "inconclusive": Exit.INCONCLUSIVE}


@click.command(epilog="Example: pi-agent verify suspect.onnx --claim claim.json")
@click.argument("suspect", required=False, type=click.Path(path_type=Path))
@click.option("--claim", required=True, type=click.Path(path_type=Path), help="The owner's claim file.")
@click.option(
    "--carriers", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Your own <class>/*.jpg."
)
@click.option(
    "--alpha", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="Instead of the claim's level."
)
@click.option("--commitment", type=click.Path(path_type=Path), help="The commitment that the owner published.")
@click.option("--suspect-since", metavar="TIME", default="", help="UTC; a claim that is dated later is refused.")
@click.option("--mix", type=click.IntRange(0, 100), default=0, help="Ordinary pictures for every composite, shuffled.")
@click.option("--jpeg", metavar="LOW-HIGH", default="", help="Vary the JPEG quality of the questions, e.g. 75-95.")
@click.option(
    "--oracle", "ask", is_flag=True, help="Instead of SUSPECT: the model behind this agent's API, inside its budget."
)
@click.option(
    "--answers",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Instead of SUSPECT: its stored answers, a transfer set or lines of JSON.",
)
@click.option(
    "--questions",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="OUT.tar",
    help="Judge nobody: write the questions as a query batch.",
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
@report_options
@json_option
@click.pass_obj
def command(
    home: str | None,
    suspect: Path | None,
    claim: Path,
    carriers: Path | None,
    alpha: float | None,
    commitment: Path | None,
    suspect_since: str,
    mix: int,
    jpeg: str,
    ask: bool,
    answers: Path | None,
    questions: Path | None,
    inbox: Path | None,
    verdicts: Path | None,
    report: Path | None,
    html: Path | None,
    signing_key: Path | None,
    as_json: bool,
) -> int:
    """Test an untrusted ONNX file for the owner's watermark, with an exact p-value.

    Exit 0: owned. 10: not owned. 11: inconclusive. 65: the file or the claim was refused.

    With --inbox: exit 0 when every file has its verdict, 75 when one is still being copied.

    With --oracle: 75 when the budget does not suffice; the same command goes on in the next window.
    """
    given = [x for x in (suspect, inbox, answers, questions, ask or None) if x is not None]
    if len(given) != 1 or (inbox is None) != (verdicts is None):
        message = "give one of SUSPECT, --oracle, --answers, --questions, or --inbox together with --verdicts"
        raise click.UsageError(message)
    papers = Paperwork(Outputs(report, html), signing_key, home)
    if papers.outputs and (inbox or questions):
        raise click.UsageError("--report and --html are for one suspect; every verdict of an inbox is signed anyway")
    if signing_key and not (report or inbox):
        raise click.UsageError("--signing-key signs a --report, or the verdicts of an --inbox")
    terms = Terms(carriers, alpha, _manner(mix, jpeg), commitment, _time(suspect_since))
    case = open_case(claim, terms)
    if inbox is not None and verdicts is not None:
        return _inbox(inbox, verdicts, case, signing_key, as_json)
    if questions is not None:
        from pi_agent.commands.interview import save_questions

        return save_questions(case, questions, as_json)
    papers.prepare(case, suspect=suspect, commitment=commitment, answers=answers)
    spent: dict[str, Any] = {}
    if ask:
        from pi_agent.commands.interview import ask_oracle  # only now: it loads the agent

        result, spent = ask_oracle(home, case)
    elif answers is not None:
        result = judge_answers(case, answers)
    else:
        assert suspect is not None
        result = case.judge(suspect)
    written, lines = papers.finish(case, result)
    emit("verify", result.as_dict() | spent | written, [*text_of(result), *lines], as_json=as_json)
    return int(_EXIT[result.verdict])


def _manner(mix: int, jpeg: str) -> Manner:
    try:
        low, _, high = jpeg.partition("-")
        return Manner(mix, (int(low), int(high or low)) if jpeg else None)
    except ValueError as exc:
        raise click.BadParameter(f"two JPEG qualities such as 75-95 are expected ({exc})", param_hint="--jpeg") from exc


def _time(text: str) -> str:
    try:
        return parse_time(text).isoformat() if text else ""
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--suspect-since") from exc


def _inbox(inbox: Path, verdicts: Path, case: Case, signing_key: Path | None, as_json: bool) -> int:
    signal.signal(signal.SIGTERM, _terminated)
    _ = case.questionnaire  # bad carriers are the claim's fault, not that of the first file
    report = judge_inbox(inbox, verdicts, case, signing_key=signing_key)
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
