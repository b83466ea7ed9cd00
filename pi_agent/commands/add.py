"""`pi-agent add`: queue pictures."""

from __future__ import annotations

import random
from pathlib import Path

import click

from pi_agent.agent import Agent
from pi_agent.commands.options import json_option, progress_bar
from pi_agent.contract.errors import RefusedImage
from pi_agent.contract.output import emit
from pi_agent.intake import find_sources, take_in


@click.command(epilog="Example: pi-agent add photos/ tonight.tar --priority 5")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--priority", type=int, default=0, show_default=True, help="Higher is asked first.")
@click.option("--shuffle", is_flag=True, help="In random order, so that the first nights ask about all classes.")
@json_option
@click.pass_obj
def command(home: str | None, paths: tuple[Path, ...], priority: int, shuffle: bool, as_json: bool) -> None:
    """Prepare images, folders of images or a query batch (.tar) and put them into the queue."""
    sources = find_sources(paths)
    if shuffle:
        random.Random().shuffle(sources)
    with Agent.open(home) as agent:
        with progress_bar(length=len(sources), label="preparing") as bar:
            intake = take_in(agent, sources, priority, bar.update)
        waiting = agent.queue.count_waiting(agent.oracle_id)
    for path, reason in intake.refused:
        click.echo(f"skipped {path}: {reason}", err=True)
    if intake.added + intake.known == 0:
        if len(intake.refused) == 1:
            raise RefusedImage(path=intake.refused[0][0], reason=intake.refused[0][1])
        raise RefusedImage(
            path=", ".join(map(str, paths)), reason=f"none of {len(intake.refused)} files is a usable picture"
        )
    data = {
        "added": intake.added,
        "known": intake.known,
        "refused": [{"path": p, "reason": r} for p, r in intake.refused],
        "queue": waiting,
    }
    line = f"{intake.added} added, {intake.known} already known, {len(intake.refused)} refused"
    emit("add", data, [f"{line}; {waiting} wait in the queue"], as_json=as_json)
