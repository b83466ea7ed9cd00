"""`pi-agent init`: write the configuration."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import click

from pi_agent.commands.options import json_option
from pi_agent.config import (
    MAX_IN_FLIGHT,
    PROTOCOLS,
    Config,
    OracleConfig,
    load_config,
    protocol_of,
    read_api_key,
    save_config,
)
from pi_agent.contract.errors import ConfigError
from pi_agent.contract.output import emit
from pi_agent.errors import NoConfig
from pi_agent.paths import Home, find_home

log = logging.getLogger(__name__)
T = TypeVar("T")


@click.command(epilog="Example: pi-agent init --url http://oracle:8000 --daily-quota 700 --api-key-file ~/oracle.key")
@click.option("--url", required=True, help="The oracle, http://host:port or tcp://host:port.")
@click.option("--protocol", type=click.Choice(PROTOCOLS), help="Default: csaw-tcp for tcp://, else http.")
@click.option("--last-class", metavar="NAME", help="The class that ends an answer over csaw-tcp, such as white-glass.")
@click.option("--daily-quota", type=click.IntRange(min=0), help="Queries per period. Default: 0.")
@click.option("--period", help="24h, 1h, 20s: the quota holds per period. Default: 24h.")
@click.option("--reset", metavar="HH:MM", help="UTC time the periods start at. Default: 00:00.")
@click.option("--reserve", type=click.IntRange(min=0), help="Queries per period that collect leaves alone. Default: 0.")
@click.option("--in-flight", type=click.IntRange(1, MAX_IN_FLIGHT), help="Queries at the same time. Default: 4.")
@click.option("--api-key-file", type=click.Path(), help="File (chmod 600) with the key; never the key itself.")
@json_option
@click.pass_obj
def command(
    home: str | None,
    url: str,
    protocol: str | None,
    last_class: str | None,
    daily_quota: int | None,
    period: str | None,
    reset: str | None,
    reserve: int | None,
    in_flight: int | None,
    api_key_file: str | None,
    as_json: bool,
) -> None:
    """Write config.toml. Running it again changes what you name and keeps queue, answers and ledger."""
    place = find_home(home).create()
    key = str(Path(api_key_file).expanduser().absolute()) if api_key_file else api_key_file
    protocol = protocol or protocol_of(url)
    try:
        before = _before(place) or Config(OracleConfig(url, protocol))
        oracle = _changed(
            before.oracle, url=url, protocol=protocol, api_key_file=key, last_class=last_class, in_flight=in_flight
        )
        budget = _changed(before.budget, daily_quota=daily_quota, period=period, reset=reset, reserve=reserve)
    except ValueError as exc:
        raise ConfigError(path="init", reason=str(exc), hint="see `pi-agent init --help`") from exc
    read_api_key(oracle)
    save_config(place, replace(before, oracle=oracle, budget=budget))
    data = {
        "config": str(place.config),
        "url": url,
        "protocol": protocol,
        "daily_quota": budget.daily_quota,
        "period": budget.period,
        "reset": budget.reset,
        "reserve": budget.reserve,
        "in_flight": oracle.in_flight,
    }
    line = f"{budget.daily_quota} queries per {budget.period} at {url}; next: pi-agent add FOLDER"
    if budget.daily_quota == 0:
        line = "the quota is 0: nothing will be asked before you give --daily-quota N, what the oracle allows"
    emit("init", data, [f"wrote {place.config}", line], as_json=as_json)


def _before(place: Home) -> Config | None:
    """What the file says now; a broken one is replaced."""
    try:
        return load_config(place, environment={})
    except NoConfig:
        return None
    except ConfigError as exc:
        log.warning("replacing it: %s", exc)
        return None


def _changed(part: T, **values: object) -> T:
    """`part` with the values that were named. Raises `ValueError`."""
    return replace(part, **{k: v for k, v in values.items() if v is not None})  # type: ignore[type-var]
