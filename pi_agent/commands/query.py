"""`pi-agent query`: one answer."""

from __future__ import annotations

from pathlib import Path

import click

from pi_agent.agent import Agent
from pi_agent.commands.options import json_option
from pi_agent.contract.answers import as_json_list
from pi_agent.contract.output import emit, table
from pi_agent.errors import OracleFailing
from pi_agent.oracle import NoAnswer
from pi_agent.prepare import prepare_file
from pi_agent.store.lock import spender_lock


@click.command(epilog="Example: pi-agent query bottle.jpg --json")
@click.argument("image", type=click.Path(path_type=Path))
@click.option("--use-reserve", is_flag=True, help="May spend what budget.reserve keeps back for verification.")
@json_option
@click.pass_obj
def command(home: str | None, image: Path, use_reserve: bool, as_json: bool) -> None:
    """Ask about one image: from the cache if it was ever answered, else for one query of today's budget."""
    picture = prepare_file(image)
    with Agent.open(home) as agent:
        answer, cached = agent.labels.get(picture.sha256), True
        if answer is None:
            agent.pictures.put(picture)
            agent.queue.add([(picture.sha256, str(image))], 0, agent.clock.now(), queued=False)
            with spender_lock(agent.home.lock):
                agent.ledger.recover()
                try:
                    keep = 0 if use_reserve else agent.config.budget.reserve
                    answer, cached = agent.oracle.ask(picture, keep=keep)
                except NoAnswer as exc:
                    raise OracleFailing(url=agent.config.oracle.url, reason=exc) from exc
    scores = as_json_list(answer.vector)
    data = {
        "classes": list(answer.classes),
        "scores": scores,
        "label": answer.label,
        "cached": cached,
        "sha256": picture.sha256,
    }
    best = sorted(zip(scores, answer.classes, strict=True), reverse=True)[:5]
    text = [
        f"{answer.label}{' (from the cache)' if cached else ''}",
        *table([(f"{s:.4f}", c) for s, c in best], ("score", "class")),
    ]
    emit("query", data, text, as_json=as_json)
