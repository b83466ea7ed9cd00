"""`pi-agent status`: how the agent is."""

from __future__ import annotations

from typing import Any

import click

from pi_agent.agent import Agent
from pi_agent.commands.options import json_option
from pi_agent.contract.output import emit
from pi_agent.contract.windows import iso
from pi_agent.surroundings import next_run, spender
from pi_agent.telemetry import Snapshot, snapshot


@click.command(epilog="Example: pi-agent status --json")
@json_option
@click.pass_obj
def command(home: str | None, as_json: bool) -> None:
    """Show queue, cache, the last and the next run, when the next window opens, disk and clock. Asks nobody."""
    with Agent.open(home) as agent:
        figures = snapshot(agent)
        collector, planned = spender(agent.home.lock), next_run()
        data: dict[str, Any] = {
            "home": str(agent.home.folder),
            "oracle": agent.config.oracle.url,
            "queue": figures.waiting,
            "queued_ever": figures.queued,
            "problems": figures.problems,
            "answers": figures.answers,
            "answered_images": figures.answered_images,
            "spent_without_answer": figures.spent_without_answer,
            "remaining": figures.budget.remaining,
            "locked_until": _iso(figures.budget.locked_until),
            "collector": {"running": collector.running, "pid": collector.pid},
            "last_run": _last_run(figures, bool(collector.running)),
            "next_run": _iso(planned),
            "next_window": iso(figures.budget.resets_at),
            "database_mb": round(figures.database_bytes / 1e6, 3),
            "wal_mb": round(figures.wal_bytes / 1e6, 3),
            "disk_free_mb": figures.disk_free_bytes // 1_000_000,
            "clock": iso(agent.clock.now()),
            "clock_synchronized": agent.clock.synchronized(),
        }
    emit("status", data, _text(data), as_json=as_json)


def _last_run(figures: Snapshot, running: bool) -> dict[str, Any] | None:
    run = figures.last_run
    if run is None:
        return None
    outcome = run.outcome or ("running" if running else "interrupted")
    return {"started": iso(run.started), "ended": _iso(run.ended), "settled": run.settled, "outcome": outcome}


def _iso(moment: float | None) -> str | None:
    return None if moment is None else iso(moment)


def _text(data: dict[str, Any]) -> list[str]:
    last, collector = data["last_run"], data["collector"]
    running = "nobody can tell" if collector["running"] is None else "no"
    if collector["running"]:
        running = "yes" if collector["pid"] is None else f"yes, process {collector['pid']}"
    unanswered = data["spent_without_answer"]
    return [
        f"home      {data['home']}",
        f"oracle    {data['oracle']}",
        f"queue     {data['queue']} waiting, {data['problems']} unusable",
        f"answers   {data['answers']} for {data['answered_images']} images; {unanswered} queries spent without one",
        f"budget    {data['remaining']} left; next window {data['next_window']}",
        *([f"locked    out until {data['locked_until']}"] if data["locked_until"] else []),
        f"running   {running}",
        f"last run  {last['started']}: {last['settled']} settled ({last['outcome']})" if last else "last run  never",
        f"next run  {data['next_run'] or 'no timer of systemd plans one'}",
        f"database  {data['database_mb']} MB and {data['wal_mb']} MB of write-ahead log",
        f"disk      {data['disk_free_mb']} MB free",
        f"clock     {data['clock']} {'synchronized' if data['clock_synchronized'] else 'not known to be synchronized'}",
    ]
