"""`pi-agent export`: the answers as a transfer set."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click

from pi_agent import __version__
from pi_agent.agent import Agent
from pi_agent.commands.options import json_option
from pi_agent.contract.errors import NothingToDo
from pi_agent.contract.output import emit
from pi_agent.contract.transfer_set import TransferItem, write_transfer_set
from pi_agent.contract.windows import iso


def _start_of(day: datetime | None) -> float:
    return day.replace(tzinfo=UTC).timestamp() if day else 0.0


@click.command(epilog="Example: pi-agent export night.tar --since 2026-11-20")
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="Only answers of this UTC day and later.")
@click.option("--verification", is_flag=True, help="Instead: only what `verify --oracle` has asked.")
@json_option
@click.pass_obj
def command(home: str | None, out: Path, since: datetime | None, verification: bool, as_json: bool) -> None:
    """Write every answered image with its answers into a WebDataset tar that `train-host distill` reads."""
    with Agent.open(home) as agent:
        answers = 0

        def counted() -> Iterator[TransferItem]:
            nonlocal answers
            for item in agent.labels.items(agent.pictures, _start_of(since), verification):
                answers += len(item.vectors)
                yield item
            if answers == 0:  # raised inside the atomic write: no file appears
                reason = f"no answers since {since:%Y-%m-%d}" if since else "no answers yet"
                raise NothingToDo(path=agent.home.database, reason=reason, hint="run pi-agent collect first")

        manifest = {
            "oracle": agent.oracle_id,
            "classes": list(agent.labels.classes() or ()),
            "made_by": f"pi-agent {__version__}",
            "made_at": iso(agent.clock.now()),
            "since": since.date().isoformat() if since else None,
        }
        images = write_transfer_set(out, manifest, counted())
    data = {"images": images, "answers": answers, "oracle": manifest["oracle"], "path": str(out)}
    emit("export", data, [f"{images} images with {answers} answers written to {out}"], as_json=as_json)
