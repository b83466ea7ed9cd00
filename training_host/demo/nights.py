"""The nights of a demo: a real server process and real agent processes, window after window."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pi_agent.contract.files import write_json
from pi_agent.contract.windows import Period, parse_period
from training_host.errors import StageFailed
from training_host.server.quota import Quota, Usage

RESULT = "nights.json"
_KEY_NAME, _READY_SECONDS = "demo-agent", 60
_SETTLE_SECONDS = 2.5
"""Waited after a reset, so that the agent's allowance for differing clocks costs the demo no budget."""


@dataclass
class Nights:
    """What happened. `windows`: settled answers per window as the agent counts; `refusal`: the attempt to exceed."""

    windows: list[dict[str, Any]] = field(default_factory=list)
    refusal: dict[str, Any] = field(default_factory=dict)
    server_counts: list[Usage] = field(default_factory=list)
    seconds: float = 0.0


def agent(home: Path, *arguments: object) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Run one `pi-agent` command in a process of its own; returns exit code, result and error objects."""
    line = [sys.executable, "-m", "pi_agent", "--home", str(home), *map(str, arguments), "--json"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    errors = [text for text in done.stderr.splitlines() if text.startswith('{"error"')]
    return done.returncode, json.loads(done.stdout or "{}"), json.loads(errors[-1])["error"] if errors else {}


@contextlib.contextmanager
def server(model: Path, folder: Path, quota: int, period: str) -> Iterator[str]:
    """Serve `model` on a free port of this machine; yields its address and stops it gracefully in the end."""
    line = [sys.executable, "-m", "training_host", "serve", str(model), "--port", _port(folder), "--quota", str(quota)]
    line += ["--quota-period", period, "--api-keys", str(folder / "keys"), "--quota-store", str(folder / "quota.db")]
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen([*line, "--json"], stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        timer = threading.Timer(_READY_SECONDS, process.kill)
        timer.start()
        ready = process.stdout.readline() if process.stdout else ""
        timer.cancel()
        if not ready:
            raise StageFailed(stage="serve", code=process.wait(), said=(folder / "server.log").read_text()[-300:])
        url = str(json.loads(ready)["url"])
        (folder / "port").write_text(url.rpartition(":")[2])
        yield url
    finally:
        process.terminate()
        process.wait()


def spend_nights(model: Path, batch: Path, out: Path, quota: int, period: str, say: Callable[[str], None]) -> Nights:
    """Have the whole batch asked, one window's budget at a time, and export the transfer set to `out/transfer.tar`."""
    if (out / RESULT).exists():
        return _read(out / RESULT)
    started = time.monotonic()
    place, home = out / "server", out / "agent"
    place.mkdir(exist_ok=True)
    key = _make_key(place)
    nights = Nights()
    with server(model, place, quota, period) as url:
        _must(
            agent(home, "init", "--url", url, "--daily-quota", quota, "--period", period, "--api-key-file", key), "init"
        )
        _must(agent(home, "add", batch), "add")
        while True:
            _wait_for_window(home)
            code, result, error = agent(home, "collect")
            if code not in (0, 75):
                raise StageFailed(stage="collect", code=code, said=error.get("message", ""))
            nights.windows.append(result)
            say(f"window {result['day']}: {result['settled']} answers, {result['queue']} wait, exit {code}")
            if code == 0:
                break
            if not nights.refusal and (attempt := _try_to_exceed(home))["day"] == result["day"]:
                nights.refusal = attempt
                say(f"one more in the same window: exit {nights.refusal['exit']}, {nights.refusal['message']}")
        _must(agent(home, "export", out / "transfer.tar"), "export")
    with contextlib.closing(Quota(quota, Period(parse_period(period)), place / "quota.db")) as counts:
        nights.server_counts = counts.history()
    nights.seconds = time.monotonic() - started
    write_json(out / RESULT, asdict(nights))
    return nights


def _port(folder: Path) -> str:
    """The port of an interrupted run, if it is still free: the agent's ledger belongs to an address. Else any."""
    try:
        port = int((folder / "port").read_text())
        with socket.create_server(("127.0.0.1", port)):
            return str(port)
    except (OSError, ValueError):
        return "0"


def _read(path: Path) -> Nights:
    """The nights of an interrupted demo that had come further."""
    content = json.loads(path.read_text())
    return Nights(**{**content, "server_counts": [Usage(*row) for row in content["server_counts"]]})


def _try_to_exceed(home: Path) -> dict[str, Any]:
    """Ask for one query more than the window allows; the ledger must refuse before anything is sent.

    On a busy machine the next window may have begun meanwhile: then this is an honest query, and `day` tells.
    """
    code, result, error = agent(home, "collect", "--limit", 1)
    told = {"exit": code, "sent": result.get("sent"), "message": error.get("message", "")}
    return {**told, "day": result.get("day")}


def _wait_for_window(home: Path) -> None:
    """Until there is budget: now, or a little after the next reset."""
    while True:
        _, budget, _ = _must(agent(home, "budget"), "budget")
        if budget["remaining"] > 0:
            return
        resets_at = datetime.fromisoformat(budget["resets_at"]).timestamp()
        time.sleep(max(0.5, resets_at + _SETTLE_SECONDS - time.time()))


def _make_key(folder: Path) -> Path:
    key = os.urandom(24).hex()
    secret, ring = folder / "agent.key", folder / "keys"
    for path, text in ((secret, key), (ring, f"{_KEY_NAME}:{key}")):
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w") as stream:
            stream.write(text + "\n")
    return secret


def _must(
    outcome: tuple[int, dict[str, Any], dict[str, Any]], stage: str
) -> tuple[int, dict[str, Any], dict[str, Any]]:
    if outcome[0] != 0:
        raise StageFailed(stage=f"pi-agent {stage}", code=outcome[0], said=outcome[2].get("message", ""))
    return outcome
