"""The nightly loop: ask for what the queue wants until the queue is empty or the budget is spent."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from pi_agent.agent import Agent
from pi_agent.asking import Bounds, NoAnswer, Outcome
from pi_agent.contract.errors import MagpieError
from pi_agent.contract.images import QueryImage
from pi_agent.contract.log import event
from pi_agent.store.lock import spender_lock
from pi_agent.store.queue import QueuedImage
from pi_agent.telemetry import write_textfile
from pi_agent.wanted import Wanted, Wish

log = logging.getLogger(__name__)

_ONCE = Wish()


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
    near_duplicates: int = 0
    oracle_repeats_itself: bool | None = None
    stopped_by: MagpieError | None = None


@dataclass(frozen=True)
class Forecast:
    """What a run would do now. `queries`: the most it would spend, `images`: about these, in order."""

    queries: int
    images: list[QueuedImage]
    near_duplicates: int
    remaining: int
    day: str


def collect(
    agent: Agent,
    wish: Wish = _ONCE,
    *,
    limit: int | None = None,
    until: float | None = None,
    progress: Callable[[Summary], None] = lambda summary: None,
) -> Summary:
    """Spend today's budget on the queue. Never raises for what the oracle does: that is in `stopped_by`.

    `limit`: queries at most in this run; `until`: seconds since 1970. Raises `Busy` (75) when another process is
    spending, `StorageError` (74) when the disk is full, `KeyboardInterrupt` when told to stop.
    """
    summary = Summary()
    with spender_lock(agent.home.lock):
        refunded, lost = agent.ledger.recover()
        if refunded or lost:
            log.warning(event("recovered", refunded=refunded, spent_without_answer=lost))
        run = agent.start_run()
        with agent.stop.welcome():  # hashing a long queue takes a while, and nothing is at stake yet
            wanted = Wanted(agent, wish)
        summary.cached = agent.queue.count_answered(agent.oracle_id, wanted.repeats)

        def landed(image: QueryImage, outcome: Outcome) -> None:
            if isinstance(outcome, NoAnswer):
                summary.failed += 1
                wanted.gave_up(image.sha256)
                log.error(event("no-answer", image=image.sha256[:12], why=outcome, permanent=outcome.permanent))
                if outcome.permanent:
                    agent.queue.set_problem(image.sha256, str(outcome))
            else:
                summary.settled += 1
                if log.isEnabledFor(logging.DEBUG):
                    log.debug(event("settled", image=image.sha256[:12], label=outcome.label))
                wanted.landed(image.sha256)
            summary.sent = agent.oracle.sent
            progress(summary)

        try:
            if limit != 0:
                agent.oracle.ask_all(wanted, landed, Bounds(limit, agent.config.budget.reserve, until))
        except MagpieError as exc:
            summary.stopped_by = exc
        except KeyboardInterrupt:
            agent.end_run(run, summary.settled, "interrupted")
            write_textfile(agent)
            raise
        _sum_up(agent, summary, wanted)
        agent.end_run(run, summary.settled, summary.stopped_by.kind if summary.stopped_by else "done")
        write_textfile(agent)
    return summary


def forecast(agent: Agent, wish: Wish, limit: int | None = None) -> Forecast:
    """What `collect` would ask now, without a lock and without the oracle: its answers may still change that."""
    budget = agent.ledger.budget()
    wanted = Wanted(agent, wish)
    left = max(0, budget.remaining - agent.config.budget.reserve)
    left = left if limit is None else min(left, limit)
    queries, near = 0, 0
    images: list[QueuedImage] = []
    for queued in wanted.queued():
        if queries >= left:
            break
        if wanted.is_near(queued):
            near += 1
            continue
        images.append(queued)
        queries += min(left - queries, wanted.repeats - queued.answers)
    return Forecast(queries, images, near, budget.remaining, budget.day)


def _sum_up(agent: Agent, summary: Summary, wanted: Wanted) -> None:
    budget = agent.ledger.budget()
    summary.sent = agent.oracle.sent if "oracle" in vars(agent) else 0
    summary.day, summary.remaining = budget.day, budget.remaining
    summary.queue = wanted.count()
    summary.failed += wanted.unreadable
    summary.near_duplicates = len(wanted.skipped)
    summary.oracle_repeats_itself = wanted.alike
