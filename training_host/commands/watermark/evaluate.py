"""`train-host watermark evaluate`: can the mark be removed?"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import joblib

from pi_agent.contract.claim import load_key
from pi_agent.contract.output import emit, table
from training_host.commands.options import json_option
from training_host.errors import AttacksFailed
from training_host.output import Stages
from training_host.removal.evaluate import Plan, evaluate_mark, open_subject
from training_host.removal.suites import SUITES
from training_host.removal.summary import HEADER, failures, lines, p_text, rows_of
from training_host.report.removal_page import write_removal_report


def _known(_: click.Context, parameter: click.Parameter, value: str) -> str:
    if value not in SUITES:
        raise click.BadParameter(f"{value!r} is none of {', '.join(SUITES)}", param=parameter)
    return value


@click.command(
    epilog="Example: train-host watermark evaluate victim --key owner.key --data waste --out attacked",
)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--key", "key_path", required=True, type=click.Path(path_type=Path), help="The key that was embedded.")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="What the model was trained on.")
@click.option(
    "--suite", default="quick", show_default=True, callback=_known, metavar="quick|full", help="Which attacks."
)
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for results.")
@click.option("--seeds", type=click.IntRange(min=1), help="Runs of every attack. Default: 1, and 3 for the full suite.")
@click.option(
    "--epochs", type=click.IntRange(min=1), help="Of an honest training, and of a thief's. Default: the model's own."
)
@click.option("--jobs", type=click.IntRange(min=1), help="Processes, one thread each. Default: one for every core.")
@json_option
def command(
    model: Path,
    key_path: Path,
    data: Path,
    suite: str,
    out: Path,
    seeds: int | None,
    epochs: int | None,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Attack the marked MODEL in every known way, and test the mark in what is left.

    Each attack is a thief who has the model, or its answers, and the training pictures of DATA, but not the key.
    Accuracy and mark are measured on held-out pictures. An attack counts if it costs at most 5 points of accuracy. The
    worst one is named first; report.html shows all. Interrupted, the same command goes on where it was.

    Exit code 1 if an attack could not be carried out.
    """
    plan = Plan(suite, seeds or (3 if suite == "full" else 1), jobs or joblib.cpu_count())
    subject = open_subject(model, load_key(key_path), data, epochs)
    with _progress() as show:
        result = evaluate_mark(subject, plan, out, show)
    page = write_removal_report(out, result)
    text = [*lines(result), "", *table(rows_of(result), HEADER), "", f"report: {page}"]
    emit("watermark-evaluate", {**result, "report": str(page)}, text, as_json=as_json)
    failed = failures(result)
    if failed:
        raise AttacksFailed(count=f"{len(failed)} of {len(result['attacks'])} attacks", names="; ".join(failed))


@contextmanager
def _progress() -> Iterator[Callable[[int, dict[str, Any]], None]]:
    """A bar on a terminal, elsewhere a line for every result that is new."""
    bar: Any = None
    stages: Stages | None = None
    last = ""

    def show(total: int, result: dict[str, Any]) -> None:
        nonlocal bar, stages, last
        last = f"{result['name']}: {result.get('error') or 'p = ' + p_text(result.get('p_value'))}"
        if not sys.stderr.isatty():
            stages = stages or Stages(total)
            stages.begin(last)
            return
        if bar is None:
            bar = click.progressbar(length=total, label="attacks", item_show_func=lambda _: last, file=sys.stderr)
            bar.__enter__()
        bar.update(1)

    try:
        yield show
    finally:
        if bar is not None:
            bar.__exit__(None, None, None)
