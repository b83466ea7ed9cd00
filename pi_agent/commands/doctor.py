"""`pi-agent doctor`: what is wrong, and what to do."""

from __future__ import annotations

import click

from pi_agent.checks import CHECKS, Context, exit_code, run_check
from pi_agent.commands.options import json_option
from pi_agent.contract.output import emit
from pi_agent.paths import find_home


@click.command(epilog="Example: pi-agent doctor --json")
@json_option
@click.pass_obj
def command(home: str | None, as_json: bool) -> int:
    """Examine configuration, key, clock, disk, database, pictures, oracle, memory and runtime. Spends no query.

    One line for each check: `ok`, `warning` or `failed`, what was found and what to do. It changes nothing.

    Exit 0: no check failed, warnings do not count. Otherwise the first check that failed says it: 78 configuration,
    77 API key, 69 clock or oracle, 74 disk, database or pictures, 73 a folder that may not be written, 65 runtime.
    """
    context = Context(find_home(home))
    results = [run_check(name, context) for name in CHECKS]
    code = exit_code(results)
    data = {
        "home": str(context.home.folder),
        "exit": int(code),
        "checks": [
            {
                "name": r.name,
                "outcome": r.finding.outcome,
                "found": r.finding.found,
                "advice": r.finding.advice,
                "exit": int(r.finding.exit_code),
            }
            for r in results
        ],
    }
    emit("doctor", data, [r.line for r in results], as_json=as_json)
    return int(code)
