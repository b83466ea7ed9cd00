"""Self-diagnosis: one file per check, each with what was found and what to do. `pi-agent doctor` runs them all.

A check is a function `check(context) -> Finding` in a module of its own. It is imported only when it runs: a library
that cannot be imported is then a line of the report.
"""

from __future__ import annotations

import importlib
import sqlite3
from dataclasses import dataclass, replace

from pi_agent.checks.base import FAILED, OK, WARNING, Context, Finding, failed, failed_with
from pi_agent.contract.errors import Exit, MagpieError, from_os_error
from pi_agent.contract.log import discreet

__all__ = ["CHECKS", "FAILED", "OK", "WARNING", "Context", "Finding", "Result", "exit_code", "run_check"]

CHECKS = (
    "config",
    "credential",
    "clock",
    "disk",
    "database",
    "pictures",
    "oracle",
    "last_run",
    "memory",
    "swap",
    "runtime",
)
"""In the order of the report; the first that fails gives the exit code."""


@dataclass(frozen=True)
class Result:
    """A finding with the name of its check."""

    name: str
    finding: Finding

    @property
    def line(self) -> str:
        """`ok       disk: 12000 MB free`, one line."""
        finding = self.finding
        advice = f" - {finding.advice}" if finding.advice else ""
        return f"{finding.outcome:7}  {self.name}: {finding.found}{advice}"


def run_check(name: str, context: Context) -> Result:
    """Run one check. Raises nothing: what goes wrong in it is its finding, without secrets or control characters."""
    try:
        finding = importlib.import_module(f"{__name__}.{name}").check(context)
    except MagpieError as exc:
        finding = failed_with(exc)
    except OSError as exc:
        finding = failed_with(from_os_error(exc))
    except sqlite3.Error as exc:
        finding = failed(f"the database cannot be read ({exc})", "see the check `database`", Exit.STORAGE)
    except Exception as exc:  # a crash of one check must not hide the others
        found = f"the check itself crashed: {type(exc).__name__}: {exc}"
        finding = failed(found, "this is a bug or a broken installation: please report it", Exit.BUG)
    return Result(name, replace(finding, found=discreet(finding.found), advice=discreet(finding.advice)))


def exit_code(results: list[Result]) -> Exit:
    """0 if no check failed, otherwise the code of the first one that did."""
    return next((r.finding.exit_code for r in results if r.finding.outcome == FAILED), Exit.OK)
