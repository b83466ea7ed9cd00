"""When did the agent last collect, and how did it end?"""

from __future__ import annotations

import sqlite3

from pi_agent.checks.base import Context, Finding, not_checked, passed, warning
from pi_agent.contract.errors import MagpieError
from pi_agent.contract.windows import DAY, iso
from pi_agent.surroundings import spender
from pi_agent.telemetry import SUCCESSES

_LOG = "read its log: journalctl -u pi-agent-collect.service -n 50"


def check(context: Context) -> Finding:
    """Never fails: what stopped a run has its own check."""
    if not context.home.database.exists():
        return passed("nothing was collected yet")
    try:
        with context.database() as database:
            run = database.execute("SELECT started_at, ended_at, outcome FROM run ORDER BY id DESC LIMIT 1").fetchone()
    except sqlite3.Error as exc:
        return not_checked(f"the database cannot be read ({exc})")
    if run is None:
        return passed("nothing was collected yet")
    ago = context.clock.now() - run["started_at"]
    found = f"began {iso(run['started_at'])}, {_ago(ago)}, and "
    if run["ended_at"] is None:
        holder = spender(context.home.lock)
        if holder.running:
            return passed(f"{found}is running (process {holder.pid or 'unknown'})")
        return warning(f"{found}was interrupted", "run pi-agent collect: it tidies up and goes on; " + _LOG)
    found += "ended with: " + str(run["outcome"])
    if run["outcome"] not in SUCCESSES:
        return warning(found, _LOG)
    if ago > 2 * _period(context) + DAY:
        return warning(found, "is the timer on? systemctl list-timers pi-agent-collect.timer, or crontab -l")
    return passed(found)


def _period(context: Context) -> float:
    try:
        return context.config.budget.window_period().seconds
    except MagpieError:
        return DAY


def _ago(seconds: float) -> str:
    if seconds < 0:
        return "in the future by this clock"
    for name, length in (("days", DAY), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {name} ago"
    return f"{seconds:.0f} seconds ago"
