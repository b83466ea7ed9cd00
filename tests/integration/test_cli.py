"""`pi-agent` from a shell: nothing heavy is loaded for `--help`, every verb explains itself, wrong usage is 2."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import click
import pytest

from pi_agent.cli import VERBS, cli
from pi_agent.contract.output import run
from pi_agent.store.lock import spender_lock
from tests.support import tiny_model_folder
from tests.support_agent import Pi, pictures
from tests.support_hostile import hostile, keep_saying, reply
from tests.support_server import KEY, serving

HEAVY = ("numpy", "cv2", "PIL", "onnxruntime", "requests", "torch", "onnx", "sqlite3")


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from pi_agent.cli import cli; from pi_agent.contract.output import run; "
        f"run(cli, 'pi-agent', ['--help']); sys.exit({HEAVY!r} and str([m for m in {HEAVY!r} if m in sys.modules]))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert process.stderr.strip() == "[]"
    assert all(verb in process.stdout for verb in VERBS)


def test_the_agent_needs_no_part_of_the_host() -> None:
    modules = [f"pi_agent.commands.{verb}" for verb in VERBS]
    hosts = ("torch", "onnx", "training_host", "fastapi", "matplotlib")
    code = f"import sys, {', '.join(modules)}; print([m for m in {hosts!r} if m in sys.modules])"
    assert python(code).strip() == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example_and_json(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, "pi-agent", [verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"Example: pi-agent {verb}" in text
    assert "--json" in text
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    assert all(p.help for p in command.params if isinstance(p, click.Option)), "every option says what it does"


@pytest.mark.parametrize("verb", VERBS)
def test_every_example_is_a_valid_command_line(verb: str) -> None:
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None and command.epilog is not None
    words = command.epilog.removeprefix("Example: pi-agent ").split()
    with click.Context(cli) as parent:
        resolved = cli.resolve_command(parent, words)
        assert resolved[0] == verb
        try:
            command.make_context(verb, resolved[2], parent=parent)
        except click.BadParameter as exc:  # only for files that are not there
            assert "does not exist" in exc.format_message()


@pytest.mark.parametrize(
    "arguments", [["frobnicate"], [], ["collect", "--limit", "many"], ["collect", "--nonsense"], ["add"], ["--oops"]]
)
def test_wrong_usage_is_2_in_text_and_json(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, "pi-agent", arguments) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ") and "hint: see `pi-agent --help`" in text
    assert len(text.splitlines()) == 2
    assert run(cli, "pi-agent", [*arguments, "--json"]) == 2
    assert json.loads(capsys.readouterr().err)["error"]["exit"] == 2


def test_the_version_is_the_packages() -> None:
    from pi_agent import __version__

    process = subprocess.run([sys.executable, "-m", "pi_agent", "--version"], capture_output=True, text=True)
    assert process.stdout.strip() == f"pi-agent, version {__version__}"


def test_status_tells_who_is_collecting_the_size_of_the_log_and_the_next_run(tmp_path: Path) -> None:
    pi = Pi(tmp_path / "home")
    pi.init("http://127.0.0.1:9", 50)
    systemctl = tmp_path / "systemctl"
    systemctl.write_text("#!/bin/sh\necho @4102444800\n")
    systemctl.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    planned = "2100-01-01T00:00:00Z" if Path("/run/systemd/system").is_dir() else None
    status = pi.done("status", PATH=path)
    assert status["next_run"] == planned
    assert status["collector"] == {"running": False, "pid": None} and status["locked_until"] is None
    assert status["database_mb"] > 0 and status["wal_mb"] >= 0
    with spender_lock(pi.home / "spender.lock"):
        assert pi.done("status")["collector"] == {"running": True, "pid": os.getpid()}
        text = pi.run("status").stdout
    assert f"running   yes, process {os.getpid()}" in text and "last run  never" in text


def test_status_tells_a_lock_out_and_an_interrupted_run_from_one_at_work(tmp_path: Path) -> None:
    pi = Pi(tmp_path / "home")
    pi.init("http://127.0.0.1:9", 50)
    pi.done("status")
    with contextlib.closing(sqlite3.connect(pi.home / "agent.db")) as database:
        database.execute("UPDATE oracle SET locked_until=4102444800")
        database.execute("INSERT INTO run (started_at) VALUES (1795219200)")
        database.commit()
    assert pi.done("status")["locked_until"] == "2100-01-01T00:00:00Z"
    assert "locked    out until 2100-01-01T00:00:00Z" in pi.run("status").stdout
    assert pi.done("status")["last_run"]["outcome"] == "interrupted"
    with spender_lock(pi.home / "spender.lock"):
        assert pi.done("status")["last_run"]["outcome"] == "running"


# -- logs --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def with_a_key(tmp_path: Path) -> Pi:
    """An agent with a key and three pictures in its queue."""
    for name, text in (("keys", f"pi:{KEY}\n"), ("key", f"{KEY}\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    pi = Pi(tmp_path / "home")
    pi.init("http://127.0.0.1:9", 50, "--period", "366d", "--api-key-file", tmp_path / "key")
    pi.done("add", pictures(tmp_path / "photos", 3))
    return pi


@pytest.mark.parametrize("journal", [False, True])
def test_the_logs_of_a_whole_run_hold_no_key_and_no_picture(with_a_key: Pi, tmp_path: Path, journal: bool) -> None:
    environment = {"JOURNAL_STREAM": "8:4711"} if journal else {}
    with serving(tiny_model_folder(tmp_path / "tiny"), "--api-keys", tmp_path / "keys") as served:
        ended = with_a_key.run("-v", "collect", PI_AGENT_ORACLE_URL=served.url, **environment)
    assert ended.code == 0, ended.stderr
    lines = ended.stderr.splitlines()
    assert len([line for line in lines if "settled" in line]) >= 3, "-v tells every step"
    head = r"<[2-7]>\S+: " if journal else r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (DEBUG|INFO|WARNING|ERROR) \S+: "
    assert all(re.match(head, line) and line.isprintable() and len(line) < 1000 for line in lines), ended.stderr
    assert KEY not in ended.stderr + ended.stdout and "JFIF" not in ended.stderr


def test_an_oracle_that_repeats_the_key_or_sends_escape_codes_gets_neither_into_the_logs(with_a_key: Pi) -> None:
    body = json.dumps({"error": f"\x1b[2J bad key {KEY}\r\n<0>forged"}).encode()
    with hostile(keep_saying(reply(422, body))) as server:
        for more in ((), ("--json",)):
            ended = with_a_key.run("-v", "collect", *more, PI_AGENT_ORACLE_URL=server.url, JOURNAL_STREAM="8:4711")
            assert ended.code != 0 or server.asked, "it was asked"
            assert KEY not in ended.stderr + ended.stdout
            assert "\x1b" not in ended.stderr and "forged" in ended.stderr
            assert not [line for line in ended.stderr.splitlines() if line.startswith("<0>")]
            with_a_key.done("add", with_a_key.home.parent / "photos")
        checks = with_a_key.run("doctor", "--json", PI_AGENT_ORACLE_URL=server.url)
    assert KEY not in checks.stdout + checks.stderr
