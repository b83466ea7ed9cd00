"""The nightly loop: ask for what the queue wants until the queue is empty or the budget is spent."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from pi_agent.agent import Agent
from pi_agent.contract.errors import MagpieError
from pi_agent.errors import OracleFailing
from pi_agent.oracle import NoAnswer
from pi_agent.store.lock import spender_lock

log = logging.getLogger(__name__)

BREAKER = 3
"""So many images without an answer in a row, and the night ends before the budget is burnt on a sick oracle."""
_BATCH = 64


@dataclass
class Summary:
    """What a run did. `sent`: queries spent, `settled`: answers stored, `cached`: wanted no query, `failed`: images."""

    sent: int = 0
    settled: int = 0
    cached: int = 0
    failed: int = 0
    remaining: int = 0
    queue: int = 0
    day: str = ""
    stopped_by: MagpieError | None = None


def collect(
    agent: Agent,
    *,
    limit: int | None = None,
    repeats: int = 1,
    until: float | None = None,
    progress: Callable[[Summary], None] = lambda summary: None,
) -> Summary:
    """Spend today's budget on the queue. Never raises for what the oracle does: that is in `stopped_by`.

    `limit`: queries at most in this run; `repeats`: answers wanted per image; `until`: seconds since 1970.
    Raises `Busy` (75) when another process is spending, `StorageError` (74) when the disk is full.
    """
    summary = Summary()
    with spender_lock(agent.home.lock):
        refunded, lost = agent.ledger.recover()
        if refunded or lost:
            log.warning("after an interrupted run: %d reserved queries refunded, %d sent stay spent", refunded, lost)
        run = agent.start_run()
        summary.cached = agent.queue.count_answered(agent.oracle_id, repeats)
        try:
            _ask_all(agent, summary, limit, repeats, until, progress)
        except MagpieError as exc:
            summary.stopped_by = exc
        except KeyboardInterrupt:
            agent.end_run(run, summary.settled, "interrupted")
            raise
        budget = agent.ledger.budget()
        summary.day, summary.remaining = budget.day, budget.remaining
        summary.queue = agent.queue.count_waiting(agent.oracle_id, repeats)
        agent.end_run(run, summary.settled, summary.stopped_by.kind if summary.stopped_by else "done")
    return summary


def _ask_all(
    agent: Agent,
    summary: Summary,
    limit: int | None,
    repeats: int,
    until: float | None,
    progress: Callable[[Summary], None],
) -> None:
    skip: list[str] = []
    failures = 0
    while batch := agent.queue.waiting(agent.oracle_id, repeats, _BATCH, skip):
        for queued in batch:
            left = None if limit is None else limit - agent.oracle.sent
            if left == 0 or (until is not None and agent.clock.now() >= until):
                return
            picture = agent.pictures.get(queued.sha256)
            if picture is None:
                log.error("%s: the stored picture is missing or damaged; add %s again", queued.sha256, queued.source)
                agent.queue.set_problem(queued.sha256, "the stored picture is missing or damaged")
                summary.failed += 1
                continue
            try:
                agent.oracle.ask(picture, fresh=True, at_most=left)
                summary.settled += 1
                failures = 0
            except NoAnswer as exc:
                log.error("%s (%s): %s", queued.sha256[:12], queued.source, exc)
                summary.failed += 1
                skip.append(queued.sha256)
                if exc.permanent:
                    agent.queue.set_problem(queued.sha256, str(exc))
                failures += 1
                if failures >= BREAKER:
                    reason = f"{failures} images in a row without a usable answer; last: {exc}"
                    raise OracleFailing(url=agent.config.oracle.url, reason=reason) from exc
            finally:
                summary.sent = agent.oracle.sent
                progress(summary)
