"""Can the time be right, and does anybody vouch for it? A wrong clock must not mint budget."""

from __future__ import annotations

import sqlite3

from pi_agent.checks.base import Context, Finding, failed, passed, warning
from pi_agent.clock import RELEASED, SYNCHRONIZED_FLAG, kernel_synchronized
from pi_agent.contract.errors import Exit
from pi_agent.contract.windows import iso

_TOLERANCE = 60.0
_SET_IT = "connect the network and enable a time service: timedatectl set-ntp true; then look at timedatectl"


def check(context: Context) -> Finding:
    """Exit 69 for a clock that shows a time that has been."""
    now = context.clock.now()
    shown = iso(now)
    if shown < RELEASED:
        return failed(f"the clock says {shown}, before this release was made ({RELEASED})", _SET_IT, Exit.UNREACHABLE)
    newest = _newest(context)
    if now < newest - _TOLERANCE:
        found = f"the clock says {shown}, but the ledger has already seen {iso(newest)}"
        return failed(found, _SET_IT, Exit.UNREACHABLE)
    if context.clock.synchronized():
        return passed(f"{shown}, synchronized ({_who()})")
    return warning(
        f"{shown}, not synchronized ({_who()})",
        f"a new window opens only if the oracle's clock agrees; better: {_SET_IT}; chrony needs the line rtcsync",
    )


def _who() -> str:
    timesyncd = "systemd-timesyncd: yes" if SYNCHRONIZED_FLAG.exists() else "systemd-timesyncd: no"
    kernel = {True: "yes", False: "no", None: "may not be asked"}[kernel_synchronized()]
    return f"{timesyncd}, kernel: {kernel}"


def _newest(context: Context) -> float:
    """The latest moment the ledger has recorded; 0 where there is none that can be read."""
    try:
        with context.database() as database:
            return float(database.execute("SELECT latest FROM ledger_clock").fetchone()[0])
    except (sqlite3.Error, TypeError):
        return 0.0
