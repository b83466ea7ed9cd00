"""What the agent says about itself: one snapshot of figures for `status`, and the same as a file for Prometheus."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pi_agent.agent import Agent
from pi_agent.contract.files import atomic_write
from pi_agent.contract.log import event
from pi_agent.store.ledger import Budget

log = logging.getLogger(__name__)

SUCCESSES = ("done", "BudgetSpent")
"""Outcomes of a run that need nobody's attention."""


@dataclass(frozen=True)
class Run:
    """One run of `collect`; moments in seconds since 1970, `ended` and `outcome` None while it runs or was killed."""

    started: float
    ended: float | None
    settled: int
    outcome: str | None


@dataclass(frozen=True)
class Snapshot:
    """Figures of one moment. Sizes in bytes; `last_success`: seconds since 1970, None before the first one."""

    budget: Budget
    waiting: int
    queued: int
    problems: int
    answers: int
    answered_images: int
    spent_without_answer: int
    last_run: Run | None
    last_success: float | None
    database_bytes: int
    wal_bytes: int
    disk_free_bytes: int


def snapshot(agent: Agent) -> Snapshot:
    """Read the figures; asks nobody. Raises `StorageError` (74)."""
    database = agent.database
    runs = database.rows("SELECT started_at, ended_at, settled, outcome FROM run ORDER BY id DESC LIMIT 1")
    marks = ", ".join("?" * len(SUCCESSES))
    success = database.value(f"SELECT max(ended_at) FROM run WHERE outcome IN ({marks})", *SUCCESSES)
    unanswered = database.value("SELECT count(*) FROM attempt WHERE state='sent' AND closed_at IS NOT NULL")
    return Snapshot(
        budget=agent.ledger.budget(),
        waiting=agent.queue.count_waiting(agent.oracle_id),
        queued=agent.queue.count(),
        problems=agent.queue.problems(),
        answers=agent.labels.count(),
        answered_images=agent.labels.count_images(),
        spent_without_answer=int(str(unanswered)),
        last_run=Run(*runs[0]) if runs else None,
        last_success=None if success is None else float(str(success)),
        database_bytes=_size(agent.home.database),
        wal_bytes=_size(wal_of(agent.home.database)),
        disk_free_bytes=shutil.disk_usage(agent.home.folder).free,
    )


def wal_of(database: Path) -> Path:
    """The write-ahead log beside a database."""
    return database.with_name(database.name + "-wal")


def write_textfile(agent: Agent) -> None:
    """Write the figures to the configured `metrics.textfile`, whole or not at all. Never raises: one warning instead.

    A relative path begins in the agent's home folder.
    """
    if not agent.config.metrics.textfile:
        return
    path = agent.home.folder / Path(agent.config.metrics.textfile).expanduser()
    try:
        text = "".join(f"{line}\n" for line in textfile_lines(snapshot(agent), agent.oracle_id))
        with atomic_write(path, mode=0o644) as stream:
            stream.write(text.encode())
    except Exception as exc:  # a run that went well must not fail for its figures, whatever is wrong with them
        log.warning(event("metrics.unwritten", path=path, why=exc, kind=type(exc).__name__))


def textfile_lines(figures: Snapshot, oracle: str) -> Iterator[str]:
    """Prometheus' text format: HELP, TYPE and one sample for each figure. A moment that has not come is 0."""
    run, budget = figures.last_run, figures.budget
    gauges: dict[str, tuple[str, float]] = {
        "last_run_start_timestamp_seconds": ("When the last run began, 0 before the first.", run.started if run else 0),
        "last_run_end_timestamp_seconds": (
            "When the last run ended, 0 while it runs or where it was killed.",
            (run.ended or 0) if run else 0,
        ),
        "last_success_timestamp_seconds": (
            "When a run last emptied the queue or spent the budget, 0 for never.",
            figures.last_success or 0,
        ),
        "budget_quota": ("Queries that one window allows.", budget.quota),
        "budget_spent": ("Queries of this window that the oracle may have counted.", budget.spent),
        "budget_reserved": ("Queries taken out of the budget and not sent yet.", budget.reserved),
        "budget_remaining": ("Queries that may still be asked in this window.", budget.remaining),
        "budget_reset_timestamp_seconds": ("When the next window begins.", budget.resets_at),
        "locked_until_timestamp_seconds": ("When the lock-out ends, 0 without one.", budget.locked_until or 0),
        "queue_waiting": ("Pictures that want an answer.", figures.waiting),
        "queue_problems": ("Pictures that the oracle or the disk made unusable.", figures.problems),
        "answers": ("Answers stored.", figures.answers),
        "answered_images": ("Pictures with at least one answer.", figures.answered_images),
        "spent_without_answer": ("Queries ever spent that brought no answer.", figures.spent_without_answer),
        "database_bytes": (
            "Size of the database with its write-ahead log.",
            figures.database_bytes + figures.wal_bytes,
        ),
        "disk_free_bytes": ("Free space where the agent lives.", figures.disk_free_bytes),
    }
    label = f'oracle="{_label(oracle)}"'
    for name, (text, value) in gauges.items():
        yield from (f"# HELP pi_agent_{name} {text}", f"# TYPE pi_agent_{name} gauge")
        yield f"pi_agent_{name}{{{label}}} {value!r}"
    name = "pi_agent_last_run_outcome"
    yield from (f"# HELP {name} 1 for the way in which the last run ended.", f"# TYPE {name} gauge")
    yield f'{name}{{{label},outcome="{_label(_outcome(run))}"}} 1'


def _outcome(run: Run | None) -> str:
    if run is None:
        return "none"
    return run.outcome or "unfinished"


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
