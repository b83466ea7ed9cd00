"""What must hold whatever happens: each check returns sentences about what did not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.chaos.fate import Fate, Plan
from tests.chaos.inspection import Snapshot
from tests.chaos.network import DEADLY, Post
from tests.support_agent import Ended

_GOOD_ENDS = {0, 69, 75}
_FULL_DISK_ENDS = {73, 74}
_ROUNDING = 2.0
"""Seconds: the oracle's `Date` knows no fractions, and looking takes time."""


@dataclass(frozen=True)
class Run:
    """One run of the agent, over: what was meant to happen, what did, and the home before and after."""

    fate: Fate
    plan: Plan
    before: Snapshot
    after: Snapshot
    posts: list[Post]
    ended: Ended
    killed: bool
    now: float

    @property
    def destroyed(self) -> int:
        """Questions of this run that the network left without an answer."""
        return sum(p.fault in DEADLY or (p.fault == "closed when idle" and not p.image) for p in self.posts)

    @property
    def slow(self) -> int:
        """Questions that the network meant well with, but that took as long as the agent waits."""
        slow = [p for p in self.posts if p.fault not in DEADLY and p.seconds > self.plan.timeout / 2]
        return len(slow)

    @property
    def stopped_by_disk(self) -> bool:
        """True where it ended because it could not write."""
        return not self.killed and self.ended.code in _FULL_DISK_ENDS

    @property
    def end(self) -> str:
        """How it ended by itself: the exit code and the kind of the error."""
        return f"{self.ended.code} {error_of(self.ended).get('kind', '')}".strip()

    @property
    def allowed_lost(self) -> int:
        """Queries that this run may have spent without an answer."""
        sudden = self.plan.in_flight if self.killed or self.stopped_by_disk else 0
        return sudden + self.destroyed + self.slow


def error_of(ended: Ended) -> dict[str, Any]:
    """The error on the last line of stderr; empty where there is none."""
    try:
        error: dict[str, Any] = json.loads(ended.stderr.splitlines()[-1])["error"]
        return error
    except (IndexError, ValueError, KeyError, TypeError):
        return {}


def after_run(run: Run) -> Iterator[str]:
    """What one run may never do."""
    yield from _ending(run)
    yield from _database(run)
    yield from _asked_again(run)
    lost = run.after.lost - run.before.lost
    if lost > run.allowed_lost:
        yield f"{lost} queries spent without an answer, at most {run.allowed_lost} can be explained"


def _ending(run: Run) -> Iterator[str]:
    if "Traceback" in run.ended.stderr:
        yield f"a traceback:\n{run.ended.stderr[-3000:]}"
    if run.killed:
        return
    good = _GOOD_ENDS | (_FULL_DISK_ENDS if run.fate.disk_fails else set())
    if run.ended.code not in good:
        yield f"exit {run.ended.code}:\n{run.ended.stderr[-3000:]}"
    if not run.stopped_by_disk and (run.after.under_way or run.after.reserved):
        yield f"a run that ended by itself left {run.after.under_way} sent and {run.after.reserved} reserved open"


def _database(run: Run) -> Iterator[str]:
    if run.after.integrity != "ok":
        yield f"integrity_check says {run.after.integrity}"
    gone = [attempt for attempt, answer in run.before.answers.items() if run.after.answers.get(attempt) != answer]
    if gone:
        yield f"settled answers are gone or changed: attempts {gone[:10]}"
    twice = [image for image, n in Counter(image for image, _ in run.after.answers.values()).items() if n > 1]
    if twice:
        yield f"more than one answer was paid for: {twice[:5]}"
    if len(run.after.answers) != run.after.settled:
        yield f"{run.after.settled} attempts are settled, but {len(run.after.answers)} answers are stored"
    if run.after.problems:
        yield f"{run.after.problems} good pictures were given up for ever"
    # A question that is lost may be under way for twice the timeout, as far as the ledger can know.
    horizon = (run.now // run.plan.period + 1) * run.plan.period + run.plan.skew + 2 * run.plan.timeout + _ROUNDING
    if run.after.latest > max(horizon, run.before.latest):
        yield f"the ledger speaks of a moment {run.after.latest - run.now:.0f} s ahead, for which nobody vouched"


def _asked_again(run: Run) -> Iterator[str]:
    answered = {image for image, _ in run.before.answers.values()}
    again = [p.image for p in run.posts if p.image in answered]
    if again:
        yield f"asked again although settled before: {again[:5]}"
    seen: set[str] = set()
    for post in run.posts:
        if post.image and post.image in seen:
            yield f"asked again in the same run although its answer had been handed over: {post.image}"
        if post.delivered and post.fault not in DEADLY and post.seconds < run.plan.timeout / 2:
            seen.add(post.image)


def of_server(plan: Plan, windows: dict[int, tuple[int, int]], statuses: Counter[int]) -> Iterator[str]:
    """What the server's own count may never say."""
    for start, (counted, refused) in sorted(windows.items()):
        if counted > plan.quota:
            yield f"QUOTA BROKEN: the server counted {counted} of {plan.quota} in the window of {start}"
        if refused:
            yield f"LOCKED OUT: the server refused {refused} in the window of {start}"
    strange = {status: n for status, n in statuses.items() if status not in (200, 400)}
    if strange:
        yield f"the server answered {strange}"


def of_answers(answers: dict[int, tuple[str, bytes]], log: dict[str, list[float]]) -> Iterator[str]:
    """Every stored answer is what the server said about that picture, bit for bit. `log`: image -> scores."""
    for attempt, (image, vector) in answers.items():
        if image not in log:
            yield f"attempt {attempt}: an answer for {image}, which the server never gave"
        elif vector != np.asarray(log[image], dtype="<f4").tobytes():
            yield f"attempt {attempt}: the stored answer for {image} is not the server's"
