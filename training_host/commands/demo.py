"""`train-host demo`: the whole story."""

from __future__ import annotations

from pathlib import Path

import click

from pi_agent.contract.output import emit
from training_host.commands.options import json_option, seed_option
from training_host.demo.plan import Plan
from training_host.demo.story import STAGES, run_demo
from training_host.demo.summary import summary_lines
from training_host.output import Stages
from training_host.report.page import write_report


@click.command(epilog="Example: train-host demo --data photos/ --out demo-run")
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="<class>/*.jpg or a zip; default: rendered.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default="demo-run", show_default=True)
@click.option("--full", is_flag=True, help="The exact RecycleMe network instead of one a quarter as wide.")
@click.option("--epochs", type=click.IntRange(min=1), help="Default: 24, and 60 for --data.")
@click.option("--per-class", type=click.IntRange(min=30), default=130, show_default=True, help="Rendered pictures.")
@click.option("--quota", type=click.IntRange(min=1), help="Queries per window. Default: 400, and 700 for --data.")
@click.option("--period", help="How long a window lasts; in earnest a day. Default: 20s, and 60s for --data.")
@click.option("--windows", type=click.IntRange(min=1), default=3, show_default=True)
@seed_option
@json_option
def command(
    data: Path | None,
    out: Path,
    full: bool,
    epochs: int | None,
    per_class: int,
    quota: int | None,
    period: str | None,
    windows: int,
    seed: int,
    as_json: bool,
) -> None:
    """Train and mark a victim, serve it behind a quota, collect, steal, score, verify: with a table and a page.

    Interrupted, the same command goes on where it was.
    """
    plan = Plan(
        data=str(data.absolute()) if data else "",
        arch="recycleme" if full else "recycleme-narrow",
        epochs=epochs or (60 if data else 24),
        per_class=per_class,
        quota=quota or (700 if data else 400),
        period=period or ("60s" if data else "20s"),
        windows=windows,
        seed=seed,
    )
    result = run_demo(plan, out, Stages(STAGES))
    page = write_report(out, result)
    emit("demo", {**result, "report": str(page)}, [*summary_lines(result), "", f"report: {page}"], as_json=as_json)
