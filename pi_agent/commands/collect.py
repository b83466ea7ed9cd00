"""`pi-agent collect`: the night's work."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import click

from pi_agent.agent import Agent
from pi_agent.collect import Summary, collect, forecast
from pi_agent.commands.options import json_option, progress_bar
from pi_agent.config import MAX_IN_FLIGHT
from pi_agent.contract.output import emit
from pi_agent.contract.windows import iso, parse_reset
from pi_agent.wanted import NEAR_BITS, Wish

_MOST_REPEATS = 32
_SHOWN = 20


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
@click.option("--repeats", type=click.IntRange(min=1, max=1000), help="Answers per image. Default: 1.")
@click.option(
    "--until-se",
    type=click.FloatRange(min=0, min_open=True),
    metavar="X",
    help=f"Repeat until the standard error of an image's scores is below X (at most --repeats, {_MOST_REPEATS}).",
)
@click.option("--until", metavar="HH:MM", help="Stop at this UTC time.")
@click.option(
    "--skip-near-duplicates",
    "near_bits",
    type=click.IntRange(0, 32),
    is_flag=False,
    flag_value=NEAR_BITS,
    metavar="[BITS]",
    help=f"Do not ask about pictures that look like one already asked (hashes differ in <= {NEAR_BITS} of 64 bits).",
)
@click.option("--in-flight", type=click.IntRange(1, MAX_IN_FLIGHT), help="Queries at the same time. Default: config.")
@click.option("--dry-run", is_flag=True, help="Only say what would be asked now; asks nobody.")
@json_option
@click.pass_obj
def command(
    home: str | None,
    limit: int | None,
    repeats: int | None,
    until_se: float | None,
    until: str | None,
    near_bits: int | None,
    in_flight: int | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Spend today's budget on the queue. Images that have their answers cost nothing.

    Exit 0: the queue is empty (or the limit reached). Exit 75: the budget is spent, go on tomorrow.
    """
    wish = Wish(repeats or (1 if until_se is None else _MOST_REPEATS), until_se, near_bits)
    with Agent.open(home) as agent:
        if in_flight is not None:
            agent.config = replace(agent.config, oracle=replace(agent.config.oracle, in_flight=in_flight))
        if dry_run:
            _show_forecast(agent, wish, limit, as_json)
        else:
            with agent.stop.watched():
                _collect(agent, wish, limit, _moment(until, agent.clock.now()), as_json)


def _collect(agent: Agent, wish: Wish, limit: int | None, until: float | None, as_json: bool) -> None:
    waiting = agent.queue.count_waiting(agent.oracle_id, wish.repeats)
    with progress_bar(length=waiting if limit is None else min(limit, waiting), label="asking") as bar:

        def show(summary: Summary) -> None:
            bar.update(summary.settled + summary.failed - bar.pos)

        summary = collect(agent, wish, limit=limit, until=until, progress=show)
    resets_at = agent.ledger.budget().resets_at
    keys = ("sent", "settled", "cached", "failed", "remaining", "queue", "day")
    data = {k: getattr(summary, k) for k in (*keys, "near_duplicates", "oracle_repeats_itself")}
    text = [
        f"{summary.settled} answers settled for {summary.sent} queries; "
        f"{summary.failed} failed, {summary.cached} cached",
        f"{summary.queue} wait in the queue; {summary.remaining} queries left until {iso(resets_at)}",
        *([f"{summary.near_duplicates} near-duplicates not asked"] if summary.near_duplicates else []),
        *(["the oracle repeats itself: each image was asked once"] if summary.oracle_repeats_itself else []),
    ]
    emit("collect", data, text, as_json=as_json)
    if summary.stopped_by is not None:
        raise summary.stopped_by


def _show_forecast(agent: Agent, wish: Wish, limit: int | None, as_json: bool) -> None:
    found = forecast(agent, wish, limit)
    data = {
        "dry_run": True,
        "queries": found.queries,
        "images": [{"sha256": q.sha256, "source": q.source, "priority": q.priority} for q in found.images],
        "near_duplicates": found.near_duplicates,
        "remaining": found.remaining,
        "day": found.day,
    }
    shown = [f"  {q.sha256[:12]}  {q.source}" for q in found.images[:_SHOWN]]
    more = len(found.images) - len(shown)
    text = [
        f"{found.queries} queries about {len(found.images)} images; {found.remaining} are left in {found.day}",
        *shown,
        *([f"  and {more} more"] if more else []),
        *([f"{found.near_duplicates} near-duplicates would not be asked"] if found.near_duplicates else []),
    ]
    emit("collect", data, text, as_json=as_json)
