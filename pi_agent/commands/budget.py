"""`pi-agent budget`: what is left."""

from __future__ import annotations

import click

from pi_agent.agent import Agent
from pi_agent.commands.options import json_option
from pi_agent.contract.output import emit
from pi_agent.contract.windows import iso


@click.command(epilog="Example: pi-agent budget --json")
@json_option
@click.pass_obj
def command(home: str | None, as_json: bool) -> None:
    """Show what the ledger knows of the current window. Asks nobody and spends nothing."""
    with Agent.open(home) as agent:
        budget = agent.ledger.budget()
    locked = iso(budget.locked_until) if budget.locked_until else None
    data = {
        "day": budget.day,
        "quota": budget.quota,
        "spent": budget.spent,
        "reserved": budget.reserved,
        "refunded": budget.refunded,
        "remaining": budget.remaining,
        "resets_at": iso(budget.resets_at),
        "locked_until": locked,
    }
    text = [
        f"{budget.day}: {budget.remaining} of {budget.quota} queries left until {iso(budget.resets_at)}",
        f"spent {budget.spent}, reserved {budget.reserved}, refunded {budget.refunded}",
        *([f"locked out until {locked}"] if locked else []),
    ]
    emit("budget", data, text, as_json=as_json)
