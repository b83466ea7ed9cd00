"""Is there a configuration, and is it right to the last key?"""

from __future__ import annotations

from pi_agent.checks.base import Context, Finding, passed, warning


def check(context: Context) -> Finding:
    """Raises `ConfigError` (78), `CannotCreate` (73)."""
    config = context.config
    budget = config.budget
    found = f"{context.home.config}: {config.oracle.url}, {budget.daily_quota} queries per {budget.period}"
    if budget.daily_quota - budget.reserve < 1:
        return warning(f"{found}, {budget.reserve} kept back", "nothing can be asked: raise budget.daily_quota")
    return passed(found)
