"""`pi-agent init`: write the configuration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from pi_agent.commands.options import json_option
from pi_agent.config import PROTOCOLS, BudgetConfig, Config, OracleConfig, load_config, read_api_key, save_config
from pi_agent.contract.errors import ConfigError
from pi_agent.contract.output import emit
from pi_agent.errors import NoConfig
from pi_agent.paths import find_home


@click.command(epilog="Example: pi-agent init --url http://oracle:8000 --daily-quota 700 --api-key-file ~/oracle.key")
@click.option("--url", required=True, help="The oracle, http://host:port.")
@click.option("--protocol", type=click.Choice(PROTOCOLS), default="http", show_default=True)
@click.option("--daily-quota", type=click.IntRange(min=0), default=0, show_default=True, help="Queries per period.")
@click.option("--period", default="24h", show_default=True, help="24h, 1h, 20s: the quota holds per period.")
@click.option("--reset", default="00:00", show_default=True, metavar="HH:MM", help="UTC time the periods start at.")
@click.option(
    "--api-key-file", type=click.Path(), default="", help="File (chmod 600) with the key; never the key itself."
)
@json_option
@click.pass_obj
def command(
    home: str | None,
    url: str,
    protocol: str,
    daily_quota: int,
    period: str,
    reset: str,
    api_key_file: str,
    as_json: bool,
) -> None:
    """Write config.toml. Running it again changes what you name and keeps queue, answers and ledger."""
    place = find_home(home).create()
    key = str(Path(api_key_file).expanduser().absolute()) if api_key_file else ""
    try:
        oracle = OracleConfig(url=url, protocol=protocol, api_key_file=key)
        config = Config(oracle, BudgetConfig(daily_quota, period, reset))
    except ValueError as exc:
        raise ConfigError(path="init", reason=str(exc), hint="see `pi-agent init --help`") from exc
    try:
        # Timeouts and attempts that the user set by hand are not ours to forget.
        before = load_config(place).oracle
        config = replace(config, oracle=replace(oracle, timeout=before.timeout, attempts=before.attempts))
    except NoConfig:
        pass
    read_api_key(config.oracle)
    save_config(place, config)
    data = {"config": str(place.config), "url": url, "daily_quota": daily_quota, "period": period, "reset": reset}
    text = [f"wrote {place.config}", f"{daily_quota} queries per {period} at {url}; next: pi-agent add FOLDER"]
    emit("init", data, text, as_json=as_json)
