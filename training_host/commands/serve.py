"""`train-host serve`: a model as a remote oracle."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

import click

from pi_agent.contract.output import emit
from pi_agent.contract.windows import Period, parse_period, parse_reset
from training_host.predictor import load_predictor
from training_host.server.csaw_tcp import TcpDoor
from training_host.server.http import make_app
from training_host.server.keys import ANONYMOUS, KeyRing, load_keys
from training_host.server.metrics import Metrics
from training_host.server.quota import Quota
from training_host.server.run import listen, run_server, url_of
from training_host.server.service import MAX_IN_FLIGHT, Places, Service

_log = logging.getLogger(__name__)
_FILE = click.Path(path_type=Path)


def _read_by(parse: Callable[[str], int]) -> Callable[[click.Context, click.Parameter, str], int]:
    """An option callback around a parser of the contract, whose `ValueError` is the usage message."""

    def callback(ctx: click.Context, param: click.Parameter, value: str) -> int:
        try:
            return parse(value)
        except ValueError as exc:
            raise click.BadParameter(str(exc)) from exc

    return callback


@click.command(epilog="Example: train-host serve models/victim --quota 700 --api-keys keys.txt --quota-store quota.db")
@click.argument("model", type=_FILE)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free port.")
@click.option(
    "--tcp-port", type=click.IntRange(0, 65535), help="Open the CSAW TCP door too, on this port; 0 takes a free one."
)
@click.option(
    "--quota", type=click.IntRange(min=0), default=700, show_default=True, help="Queries per client and period."
)
@click.option("--quota-period", callback=_read_by(parse_period), default="24h", show_default=True, help="20s, 90m, 1h.")
@click.option("--reset", callback=_read_by(parse_reset), default="00:00", show_default=True, help="UTC, HH:MM.")
@click.option("--api-keys", type=_FILE, help="File of `name:key` lines, mode 0600. Without it everybody may ask.")
@click.option("--quota-store", type=_FILE, help="SQLite file for the counts. Without it a restart forgets them.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="CPU threads per prediction.")
@click.option(
    "--max-in-flight",
    type=click.IntRange(min=1),
    default=MAX_IN_FLIGHT,
    show_default=True,
    help="Requests of one client at once; more get 429.",
)
@click.option("--json", "as_json", is_flag=True, help="Say where it listens as one JSON object.")
def command(
    model: Path,
    host: str,
    port: int,
    tcp_port: int | None,
    quota: int,
    quota_period: int,
    reset: int,
    api_keys: Path | None,
    quota_store: Path | None,
    threads: int,
    max_in_flight: int,
    as_json: bool,
) -> None:
    """Serve MODEL, a model folder or its ONNX file, behind a quota: over HTTP, with --tcp-port over raw TCP as well.

    Keys and counts are the same behind both doors. Who asks more than the quota is locked out until the window ends.
    SIGTERM or Ctrl-C ends it once the answers in flight are out.
    """
    keys = load_keys(api_keys) if api_keys else KeyRing()
    predictor = load_predictor(model, threads)
    with contextlib.closing(Quota(quota, Period(quota_period, reset), quota_store)) as counts:
        service = Service(predictor, keys, counts, places=Places(max_in_flight))
        metrics = Metrics(service)
        listener = listen(host, port)
        facts, door = {"url": url_of(listener)}, None
        if tcp_port is not None:
            tcp_listener = listen(host, tcp_port)
            door = TcpDoor(service, metrics, tcp_listener)
            facts["tcp_url"] = url_of(tcp_listener, "tcp")
        _warn(keys, quota_store)
        name, urls = predictor.manifest.name, " and ".join(facts.values())
        more = {"pid": os.getpid(), "model": name, "quota": quota, "period_seconds": quota_period}
        line = f"serving {name} at {urls} ({quota} queries in {quota_period} s for each client)"
        run_server(
            make_app(service, metrics),
            listener,
            ready=lambda: emit("serve", facts | more, [line], as_json=as_json),
            door=door,
        )


def _warn(keys: KeyRing, quota_store: Path | None) -> None:
    if keys.is_open:
        _log.warning("no --api-keys: anybody who reaches the port may ask, and all share the quota of %r", ANONYMOUS)
    for name in keys.short:
        _log.warning("the key of client %s is short enough to be guessed", name)
    if quota_store is None:
        _log.warning("no --quota-store: the counts are kept in memory, and a restart forgets them")
