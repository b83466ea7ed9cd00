"""`pi-agent status`: how the agent is."""

from __future__ import annotations

import shutil
from typing import Any

import click

from pi_agent.agent import Agent
from pi_agent.commands.options import json_option
from pi_agent.contract.output import emit
from pi_agent.contract.windows import iso


@click.command(epilog="Example: pi-agent status --json")
@json_option
@click.pass_obj
def command(home: str | None, as_json: bool) -> None:
    """Show queue, cache, the last run, when the next window opens, disk and clock. Asks nobody."""
    with Agent.open(home) as agent:
        budget = agent.ledger.budget()
        rows = agent.database.rows("SELECT started_at, ended_at, settled, outcome FROM run ORDER BY id DESC LIMIT 1")
        unanswered = agent.database.value("SELECT count(*) FROM attempt WHERE state='sent' AND closed_at IS NOT NULL")
        data: dict[str, Any] = {
            "home": str(agent.home.folder),
            "oracle": agent.config.oracle.url,
            "queue": agent.queue.count_waiting(agent.oracle_id),
            "queued_ever": agent.queue.count(),
            "problems": agent.queue.problems(),
            "answers": agent.labels.count(),
            "answered_images": agent.labels.count_images(),
            "spent_without_answer": unanswered,
            "remaining": budget.remaining,
            "last_run": None,
            "next_window": iso(budget.resets_at),
            "disk_free_mb": shutil.disk_usage(agent.home.folder).free // 1_000_000,
            "clock": iso(agent.clock.now()),
            "clock_synchronized": agent.clock.synchronized(),
        }
        if rows:
            ended = rows[0]["ended_at"]
            data["last_run"] = {
                "started": iso(rows[0]["started_at"]),
                "ended": iso(ended) if ended else None,
                "settled": rows[0]["settled"],
                "outcome": rows[0]["outcome"] or "interrupted",
            }
    last = data["last_run"]
    clock = "synchronized" if data["clock_synchronized"] else "not synchronized by timesyncd"
    text = [
        f"home      {data['home']}",
        f"oracle    {data['oracle']}",
        f"queue     {data['queue']} waiting, {data['problems']} unusable",
        f"answers   {data['answers']} for {data['answered_images']} images; {unanswered} queries spent without one",
        f"budget    {data['remaining']} left; next window {data['next_window']}",
        f"last run  {last['started']}: {last['settled']} settled ({last['outcome']})" if last else "last run  never",
        f"disk      {data['disk_free_mb']} MB free",
        f"clock     {data['clock']} {clock}",
    ]
    emit("status", data, text, as_json=as_json)
