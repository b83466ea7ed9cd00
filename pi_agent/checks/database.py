"""Is the database ours, whole, and does its ledger add up?"""

from __future__ import annotations

import sqlite3

from pi_agent.checks.base import Context, Finding, failed, failed_with, passed, warning
from pi_agent.contract.errors import Exit, MagpieError
from pi_agent.contract.windows import iso
from pi_agent.errors import DamagedDatabase
from pi_agent.store.accounting import Accounting
from pi_agent.store.db import storage_errors
from pi_agent.store.migrations import MIGRATIONS, check_owner
from pi_agent.surroundings import spender
from pi_agent.telemetry import wal_of

_LARGE_WAL = 64_000_000
_NEWEST = 40
_DAMAGED = (
    'do not delete it: it is the proof of what was spent. Restore a backup (made with: sqlite3 agent.db "VACUUM INTO '
    "'backup.db'\"); without one wait until the quota's window has ended, move it and {lock} away and start anew"
)
_LOST = "restore a backup; without one wait until the quota's window has ended, delete {lock} and start anew"


def check(context: Context) -> Finding:
    """Exit 74 for a database that is damaged or not ours."""
    path = context.home.database
    lock = context.home.lock
    if not path.exists() or path.stat().st_size == 0:
        if not lock.exists():
            return passed("there is none yet")
        found = f"{path} is missing or empty, although queries were spent from here"
        return failed(found, _LOST.format(lock=lock), Exit.STORAGE)
    try:
        with storage_errors(path), context.database() as database:
            check_owner(database, path)
            lines = "\n".join(row[0] for row in database.execute("PRAGMA integrity_check(3)")).splitlines()
            broken = [line for line in lines if line != "ok" and not line.startswith("***")]
            if broken:
                return failed(f"{path} is damaged: {'; '.join(broken)}", _DAMAGED.format(lock=lock), Exit.STORAGE)
            return _books(context, database)
    except DamagedDatabase as exc:
        advice = exc.advice if exc.advice != DamagedDatabase.hint else _DAMAGED.format(lock=lock)
        return failed(str(exc), advice, Exit.STORAGE)
    except MagpieError as exc:
        return failed_with(exc)


def _books(context: Context, database: sqlite3.Connection) -> Finding:
    path = context.home.database
    version = database.execute("PRAGMA user_version").fetchone()[0]
    wal = wal_of(path).stat().st_size if wal_of(path).exists() else 0
    size = f"{path.stat().st_size / 1e6:.1f} MB and {wal / 1e6:.1f} MB of write-ahead log, whole"
    if version < len(MIGRATIONS):
        return warning(f"{size}, of an older version", "the next command brings it up to date; make a backup first")
    over = _overspent(context, database)
    if over:
        return warning(
            f"{size}, but {over}", "was the quota lowered meanwhile? if not, this is a bug: please report it"
        )
    holder = spender(context.home.lock)
    states = dict(database.execute("SELECT state, count(*) FROM attempt WHERE closed_at IS NULL GROUP BY state"))
    if states and not holder.running:
        counts = " and ".join(f"{count} {state}" for state, count in sorted(states.items()))
        advice = "the next pi-agent collect refunds what was reserved and keeps what was sent as spent"
        return warning(f"{size}; an interrupted run left {counts}", advice)
    if wal > _LARGE_WAL and not holder.running:
        return warning(size, "the next pi-agent collect shrinks the log when it ends")
    return passed(size + (", in use by a run" if holder.running else ""))


def _overspent(context: Context, database: sqlite3.Connection) -> str:
    """The newest window that is charged with more than the configured quota, in words; empty where there is none."""
    try:
        budget, name = context.config.budget, context.oracle_id
    except MagpieError:
        return ""
    row = database.execute("SELECT id FROM oracle WHERE name=?", (name,)).fetchone()
    if row is None:
        return ""
    period = budget.window_period()
    books = Accounting(row["id"], budget.daily_quota, period, context.clock)
    starts = database.execute(
        "SELECT start FROM budget_window WHERE oracle=? ORDER BY start DESC LIMIT ?", (row["id"], _NEWEST)
    ).fetchall()
    for (start,) in starts:
        window = period.window_at(start)
        spent = books.charge(database, window).spent
        if window.start == start and spent > budget.daily_quota:
            return f"the window that began {iso(start)} is charged with {spent} queries of {budget.daily_quota}"
    return ""
