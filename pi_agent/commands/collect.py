"""`pi-agent collect`: the night's work."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta

import click

from pi_agent.agent import Agent
from pi_agent.collect import Summary, collect
from pi_agent.commands.options import json_option, progress_bar
from pi_agent.contract.output import emit
from pi_agent.contract.windows import iso, parse_reset


def _terminated(*_: object) -> None:
    raise KeyboardInterrupt  # systemd's stop: end as tidily as after Ctrl-C


def _moment(text: str | None, now: float) -> float | None:
    """The next time the UTC clock shows HH:MM."""
    if text is None:
        return None
    try:
        offset = parse_reset(text)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--until") from exc
    midnight = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    moment = midnight + timedelta(seconds=offset)
    return (moment if moment.timestamp() > now else moment + timedelta(days=1)).timestamp()


@click.command(epilog="Example: pi-agent collect --limit 200 --json")
@click.option("--limit", type=click.IntRange(min=0), help="Spend at most so many queries in this run.")
@click.option(
    "--repeats", type=click.IntRange(min=1, max=1000), default=1, show_default=True, help="Answers per image."
)
@click.option("--until", metavar="HH:MM", help="Stop at this UTC time.")
@json_option
@click.pass_obj
def command(home: str | None, limit: int | None, repeats: int, until: str | None, as_json: bool) -> None:
    """Spend today's budget on the queue. Images that have their answers cost nothing.

    Exit 0: the queue is empty (or the limit reached). Exit 75: the budget is spent, go on tomorrow.
    """
    signal.signal(signal.SIGTERM, _terminated)
    with Agent.open(home) as agent:
        waiting = agent.queue.count_waiting(agent.oracle_id, repeats)
        total = waiting if limit is None else min(limit, waiting)
        moment = _moment(until, agent.clock.now())
        with progress_bar(length=total, label="asking") as bar:

            def show(summary: Summary) -> None:
                bar.update(summary.settled + summary.failed - bar.pos)

            summary = collect(agent, limit=limit, repeats=repeats, until=moment, progress=show)
        resets_at = agent.ledger.budget().resets_at
    keys = ("sent", "settled", "cached", "failed", "remaining", "queue", "day")
    text = [
        f"{summary.settled} answers settled for {summary.sent} queries; "
        f"{summary.failed} failed, {summary.cached} cached",
        f"{summary.queue} wait in the queue; {summary.remaining} queries left until {iso(resets_at)}",
    ]
    emit("collect", {k: getattr(summary, k) for k in keys}, text, as_json=as_json)
    if summary.stopped_by is not None:
        raise summary.stopped_by
