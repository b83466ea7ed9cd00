"""`pi-agent doctor` names what is wrong and what to do, whatever else is broken, and spends nothing."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import shutil
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from pi_agent.checks import CHECKS, Context, Finding, Result, exit_code, run_check
from pi_agent.checks.base import failed, passed, warning
from pi_agent.cli import cli
from pi_agent.clock import Clock
from pi_agent.contract.errors import Exit
from pi_agent.contract.output import run
from pi_agent.paths import Home
from pi_agent.store.lock import spender_lock
from tests.support import tiny_model_folder
from tests.support_agent import Pi, pictures
from tests.support_hostile import GOOD, hostile, keep_saying, reply
from tests.support_server import KEY, serving

NOWHERE = "http://127.0.0.1:9"
ROOT = os.geteuid() == 0


@pytest.fixture(scope="module")
def after_a_night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with five pictures and their answers."""
    folder = tmp_path_factory.mktemp("night")
    pi = Pi(folder / "home")
    with hostile(keep_saying(reply(200, GOOD))) as server:
        pi.init(server.url, 50, "--period", "366d")
        pi.done("add", pictures(folder / "photos", 5))
        pi.done("collect")
    return pi.home


@pytest.fixture
def pi(after_a_night: Path, tmp_path: Path) -> Pi:
    """A copy of it."""
    return Pi(Path(shutil.copytree(after_a_night, tmp_path / "home")))


@pytest.fixture
def context(pi: Pi) -> Context:
    """For single checks, without a process of their own. The clock is right and synchronized."""
    return Context(Home(pi.home), Clock(synchronized=lambda: True), {})


def report(pi: Pi, *, code: int, **options: object) -> dict[str, dict[str, object]]:
    """What `doctor --json` says, by check; every check is there, in order."""
    ended = pi.run("doctor", "--json", **options)
    assert (ended.code, ended.json["exit"], ended.json["schema"]) == (code, code, "doctor/1"), ended.stdout
    assert [c["name"] for c in ended.json["checks"]] == list(CHECKS)
    checks = {c["name"]: c for c in ended.json["checks"]}
    for check in checks.values():
        assert check["found"] and str(check["found"]).isprintable()
        assert bool(check["advice"]) == (check["outcome"] != "ok"), "whoever complains says what to do"
        assert bool(check["exit"]) == (check["outcome"] == "failed")
    return checks


def failures(checks: dict[str, dict[str, object]]) -> list[str]:
    """The names of the checks that failed."""
    return [name for name, check in checks.items() if check["outcome"] == "failed"]


def look(context: Context, name: str) -> Finding:
    """One check."""
    return run_check(name, context).finding


# -- the whole report --------------------------------------------------------------------------------------------------


def test_a_healthy_agent_passes_and_nothing_is_spent_or_changed(pi: Pi) -> None:
    database = (pi.home / "agent.db").read_bytes()
    with hostile(keep_saying(reply(200, GOOD))) as server:
        environment = {"PI_AGENT_ORACLE_URL": server.url}
        checks = report(pi, code=0, **environment)
        ended = pi.run("doctor", **environment)
        assert server.asked == 0
    healthy = {"config", "credential", "disk", "database", "pictures", "oracle", "last_run", "runtime"}
    assert {n for n in healthy if checks[n]["outcome"] != "ok"} - {"disk"} == set(), "a small disk is a warning"
    assert "5 stored, 5 read" in str(checks["pictures"]["found"])
    lines = ended.stdout.splitlines()
    assert [line.split()[1].rstrip(":") for line in lines] == list(CHECKS)
    assert {line.split()[0] for line in lines} <= {"ok", "warning"} and not ended.stderr
    assert (pi.home / "agent.db").read_bytes() == database
    assert not [p.name for p in pi.home.iterdir() if p.name.startswith(".")]


def test_without_a_home_it_says_init_and_makes_none(tmp_path: Path) -> None:
    checks = report(Pi(tmp_path / "new"), code=78)
    assert failures(checks) == ["config"]
    assert "pi-agent init --url" in str(checks["config"]["advice"])
    assert not (tmp_path / "new").exists()


def test_a_home_that_is_a_file_does_not_stop_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    checks = report(Pi(tmp_path / "file"), code=73)
    assert failures(checks) == ["config", "disk"]


@pytest.mark.parametrize("damage", ["head", "middle", "stranger", "newer"])
def test_a_damaged_database_is_named_with_advice_and_left_alone(pi: Pi, damage: str) -> None:
    path = pi.home / "agent.db"
    for rest in pi.home.glob("agent.db-*"):
        rest.unlink()
    if damage == "stranger":
        path.unlink()
        pi.rows("CREATE TABLE mine (x)")
    elif damage == "newer":
        pi.rows("PRAGMA user_version=99")
    else:
        data = bytearray(path.read_bytes())
        start = 0 if damage == "head" else 2 * 4096
        data[start : start + 10 * 4096] = os.urandom(10 * 4096)
        path.write_bytes(data)
    before = path.read_bytes()
    with hostile(keep_saying(reply(200, GOOD))) as server:
        checks = report(pi, code=74, PI_AGENT_ORACLE_URL=server.url)
    assert failures(checks)[0] == "database"
    said = f"{checks['database']['found']} {checks['database']['advice']}"
    words = {"stranger": "another program", "newer": "update pi-agent"}.get(damage, "do not delete it")
    assert "agent.db" in said and words in said
    if damage in ("head", "middle"):
        assert "VACUUM INTO" in said and "backup" in said and "spender.lock" in said
    assert (checks["oracle"]["outcome"], checks["runtime"]["outcome"]) == ("ok", "ok"), "the rest goes on"
    assert path.read_bytes() == before


def test_the_crash_of_one_check_is_a_line_and_the_rest_goes_on(
    pi: Pi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def crash(context: Context) -> Finding:
        raise TypeError("oh\x1b[2J\nno")

    monkeypatch.setattr(importlib.import_module("pi_agent.checks.memory"), "check", crash)
    monkeypatch.setenv("PI_AGENT_ORACLE_URL", "http://[::1")  # the configuration is wrong, too
    assert run(cli, "pi-agent", ["--home", str(pi.home), "doctor"]) == 78
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(CHECKS) and all(line.isprintable() for line in lines)
    crashed = lines[CHECKS.index("memory")]
    assert crashed.startswith("failed   memory: the check itself crashed: TypeError: oh\\x1b[2J\\nno")
    monkeypatch.delenv("PI_AGENT_ORACLE_URL")
    results = [run_check(name, Context(Home(pi.home))) for name in ("database", "memory")]
    assert exit_code(results) == Exit.BUG


def test_a_check_that_cannot_be_imported_is_a_line_too(context: Context) -> None:
    result = run_check("no_such_check", context)
    assert result.finding.outcome == "failed" and "ModuleNotFoundError" in result.line


def test_the_first_failure_gives_the_exit_code_and_warnings_give_none() -> None:
    fine, so_so = Result("a", passed("x")), Result("b", warning("x", "y"))
    bad, worse = (Result("c", failed("x", "y", code)) for code in (Exit.STORAGE, Exit.CONFIGURATION))
    assert exit_code([fine, so_so]) == 0
    assert exit_code([fine, bad, so_so, worse]) == 74
    assert exit_code([worse, bad]) == 78


def test_every_check_is_a_file_and_every_file_a_check() -> None:
    folder = Path(importlib.import_module("pi_agent.checks").__file__ or "").parent
    assert {p.stem for p in folder.glob("*.py")} - {"__init__", "base"} == set(CHECKS)


def test_all_checks_survive_an_empty_root_and_no_home(tmp_path: Path) -> None:
    context = Context(Home(tmp_path / "no"), root=tmp_path / "nothing", environment={}, python="/bin/false")
    results = [run_check(name, context) for name in CHECKS]
    assert [r.name for r in results if r.finding.outcome == "failed"] == ["config", "runtime"]
    assert not [r for r in results if "crashed" in r.finding.found]


# -- configuration and key ---------------------------------------------------------------------------------------------


def test_a_wrong_configuration_is_78_and_names_the_key(pi: Pi) -> None:
    config = pi.home / "config.toml"
    config.write_text(config.read_text().replace("daily_quota", "daily_qouta"))
    checks = report(pi, code=78)
    assert "did you mean 'daily_quota'?" in str(checks["config"]["found"])
    assert checks["oracle"]["outcome"] == "warning", "not checked"


def test_a_quota_that_allows_nothing_is_a_warning(context: Context) -> None:
    finding = look(replace(context, environment={"PI_AGENT_BUDGET_RESERVE": "50"}), "config")
    assert finding.outcome == "warning" and "daily_quota" in finding.advice


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        ("hush-hush\n", 0o644, "chmod 600"),
        ("hush-hush\nhush-hush\n", 0o600, "one line"),
        ("", 0o600, "one line"),
        (None, 0o600, "api_key_file"),
    ],
)
def test_a_key_that_cannot_be_used_is_77_and_is_never_shown(
    pi: Pi, tmp_path: Path, text: str | None, mode: int, words: str
) -> None:
    key = tmp_path / "key"
    if text is not None:
        key.write_text(text)
        key.chmod(mode)
    environment = {"PI_AGENT_ORACLE_URL": NOWHERE, "PI_AGENT_ORACLE_API_KEY_FILE": str(key)}
    checks = report(pi, code=77, **environment)
    assert failures(checks) == ["credential"] and words in str(checks["credential"]["advice"])
    assert "hush" not in json.dumps(checks)


def test_a_key_from_systemd_and_a_private_file_are_fine(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "api-key"
    key.write_text("hush\n")
    key.chmod(0o600)
    from_file = replace(context, environment={"PI_AGENT_ORACLE_API_KEY_FILE": str(key)})
    finding = look(from_file, "credential")
    assert (finding.outcome, finding.found) == ("ok", f"{key} holds one key and is private")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert look(context, "credential").found == "the key comes from systemd's credentials"


@pytest.mark.skipif(not ROOT, reason="only root can give a file away")
def test_a_key_file_of_somebody_else_is_a_warning(context: Context, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("hush\n")
    key.chmod(0o600)
    os.chown(key, 12345, 12345)
    finding = look(replace(context, environment={"PI_AGENT_ORACLE_API_KEY_FILE": str(key)}), "credential")
    assert finding.outcome == "warning" and "12345" in finding.found


# -- the oracle --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def says(
    status: int, body: bytes = b"{}", wrap: Callable[[socket.socket], socket.socket] | None = None
) -> Iterator[str]:
    """A server that answers every GET like this; yields host and port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    port = server.server_port
    if wrap:
        server.socket = wrap(server.socket)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def asked_at(context: Context, url: str) -> Finding:
    """The check `oracle` with this address."""
    return look(replace(context, environment={"PI_AGENT_ORACLE_URL": url}), "oracle")


def test_the_oracle_tells_its_quota_and_a_wrong_key_is_77(pi: Pi, tmp_path: Path) -> None:
    for name, text in (("keys", f"pi:{KEY}\n"), ("key", f"{KEY}\n"), ("wrong", "0" * 32 + "\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    arguments = ("--api-keys", tmp_path / "keys", "--quota", 321)
    with serving(tiny_model_folder(tmp_path / "tiny"), *arguments) as served:
        environment = {"PI_AGENT_ORACLE_URL": served.url, "PI_AGENT_ORACLE_API_KEY_FILE": str(tmp_path / "key")}
        checks = report(pi, code=0, **environment)
        assert checks["oracle"]["outcome"] == "ok" and "321 queries are left" in str(checks["oracle"]["found"])
        assert "its clock agrees" in str(checks["oracle"]["found"])
        environment["PI_AGENT_ORACLE_API_KEY_FILE"] = str(tmp_path / "wrong")
        checks = report(pi, code=77, **environment)
        assert failures(checks) == ["oracle"] and "api_key_file" in str(checks["oracle"]["advice"])
        assert served.quota(KEY).json()["remaining"] == 321
    assert KEY not in json.dumps(checks) and "0" * 32 not in json.dumps(checks)


def test_an_oracle_that_is_down_is_69(pi: Pi) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    checks = report(pi, code=69, PI_AGENT_ORACLE_URL=url)
    assert failures(checks) == ["oracle"] and "refused" in str(checks["oracle"]["found"])


def test_a_name_that_nobody_knows_is_told_apart(context: Context) -> None:
    finding = asked_at(context, "http://no-such-host.invalid:8000")
    assert finding.outcome == "failed" and "check the name" in finding.advice


def test_an_oracle_that_says_nothing_does_not_keep_the_doctor(pi: Pi) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        checks = report(pi, code=69, PI_AGENT_ORACLE_URL=url, PI_AGENT_ORACLE_TIMEOUT="0.5")
    assert failures(checks) == ["oracle"]


def test_a_lock_out_is_a_warning_with_its_end(context: Context) -> None:
    with says(403, b'{"until": "2999-01-01T00:00:00Z"}') as where:
        finding = asked_at(context, f"http://{where}")
    assert finding.outcome == "warning" and "2999-01-01T00:00:00Z" in finding.found
    with says(403) as where:
        assert "an unknown time" in asked_at(context, f"http://{where}").found


@pytest.mark.parametrize("vouched", [False, True])
def test_a_clock_that_differs_is_a_warning(context: Context, vouched: bool) -> None:
    slow = Clock(lambda: time.time() - 3600, synchronized=lambda: vouched)
    with says(404) as where:
        finding = asked_at(replace(context, clock=slow), f"http://{where}")
    seconds = int(finding.found.rpartition(" differs by ")[2].removesuffix(" s"))
    assert finding.outcome == "warning" and 3590 <= seconds <= 3600
    assert ("owner" in finding.advice) == vouched


def test_tls_trouble_asks_about_the_clock(context: Context) -> None:
    with says(404) as where:
        finding = asked_at(context, f"https://{where}")
    assert (finding.outcome, finding.exit_code) == ("failed", 69) and "is our clock right?" in finding.advice


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_a_certificate_that_nobody_signed_is_refused(context: Context, tmp_path: Path) -> None:
    line = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1"
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "k.pem", "-out", "c.pem"]
    subprocess.run([*line.split(), *files], cwd=tmp_path, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "c.pem", tmp_path / "k.pem")
    with says(404, wrap=lambda plain: tls.wrap_socket(plain, server_side=True)) as where:
        finding = asked_at(context, f"https://{where}")
    assert finding.outcome == "failed" and "certificate" in finding.found and "trusted" in finding.advice


# -- clock -------------------------------------------------------------------------------------------------------------


def test_a_clock_before_the_release_or_before_the_ledger_is_69(context: Context, pi: Pi) -> None:
    fresh = replace(context, clock=Clock(lambda: 0.0, synchronized=lambda: True))
    finding = look(fresh, "clock")
    assert (finding.outcome, finding.exit_code) == ("failed", 69) and "1970-01-01" in finding.found
    with contextlib.closing(sqlite3.connect(pi.home / "agent.db")) as database:
        database.execute("UPDATE ledger_clock SET latest=?", (time.time() + 86400,))
        database.commit()
    finding = look(context, "clock")
    assert (finding.outcome, finding.exit_code) == ("failed", 69) and "ledger has already seen" in finding.found


def test_a_clock_that_nobody_vouches_for_is_a_warning(context: Context) -> None:
    assert look(context, "clock").outcome == "ok"
    finding = look(replace(context, clock=Clock(synchronized=lambda: False)), "clock")
    assert finding.outcome == "warning" and "kernel: " in finding.found and "timedatectl" in finding.advice


# -- disk --------------------------------------------------------------------------------------------------------------


def mount(*arguments: object) -> None:
    """Mount something, or skip the test where that is not allowed."""
    if not ROOT or subprocess.run(["mount", *map(str, arguments)], capture_output=True).returncode != 0:
        pytest.skip("mounting is not allowed here")


@contextlib.contextmanager
def mounted(folder: Path) -> Iterator[None]:
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_full_is_74_in_every_respect(pi: Pi, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", disk)
    with mounted(disk):
        home = Path(shutil.copytree(pi.home, disk / "home"))
        finding = look(Context(Home(home)), "disk")
        assert (finding.outcome, finding.exit_code) == ("failed", 74) and "MB free" in finding.found
        with (disk / "filler").open("wb", buffering=0) as stream, pytest.raises(OSError, match="space"):
            while True:
                stream.write(bytes(4096))
        checks = report(Pi(home), code=74, PI_AGENT_ORACLE_URL=NOWHERE)
        assert failures(checks)[0] == "disk" and "could not be written" in str(checks["disk"]["found"])
        assert not list(home.glob(".doctor*"))


def test_files_that_may_not_grow_are_74(pi: Pi) -> None:
    def nothing_may_grow() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    with pi.start("doctor", "--json", limits=nothing_may_grow, PI_AGENT_ORACLE_URL=NOWHERE) as process:
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 74, stderr
    disk = json.loads(stdout)["checks"][CHECKS.index("disk")]
    assert disk["outcome"] == "failed" and "File too large" in disk["found"]


def test_a_read_only_disk_is_74_and_the_database_is_examined_all_the_same(pi: Pi) -> None:
    for rest in pi.home.glob("agent.db-*"):
        rest.unlink()
    mount("--bind", pi.home, pi.home)
    with mounted(pi.home):
        mount("-o", "remount,ro,bind", pi.home)
        checks = report(pi, code=74, PI_AGENT_ORACLE_URL=NOWHERE)
        assert failures(checks) == ["disk", "oracle"]
        assert "read-only" in str(checks["disk"]["found"]) and "dmesg" in str(checks["disk"]["advice"])
        assert checks["database"]["outcome"] == "ok"


def test_few_free_files_and_little_room_are_warnings(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs(context.home.folder)
    base = list(real)
    base[1], base[4] = 1, 50_000_000  # f_frsize, f_bavail: 50 MB
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(base))
    finding = look(context, "disk")
    assert finding.outcome == "warning" and "50 MB free" in finding.found
    base[4], base[5], base[7] = 10**10, 2000, 10  # f_files, f_favail
    finding = look(context, "disk")
    assert finding.outcome == "warning" and "room for 10 files only" in finding.found


# -- database and pictures ---------------------------------------------------------------------------------------------


def change(pi: Pi, sql: str, *values: object) -> None:
    """Change the database behind the agent's back."""
    with contextlib.closing(sqlite3.connect(pi.home / "agent.db")) as database:
        database.execute(sql, values)
        database.commit()


def test_attempts_that_a_killed_run_left_are_told_unless_a_run_is_at_work(pi: Pi, context: Context) -> None:
    assert look(context, "database").outcome == "ok"
    change(pi, "UPDATE attempt SET state='sent', closed_at=NULL WHERE id=1")
    change(pi, "UPDATE attempt SET state='reserved', sent_at=NULL, closed_at=NULL WHERE id=2")
    finding = look(context, "database")
    assert finding.outcome == "warning" and "left 1 reserved and 1 sent" in finding.found
    with spender_lock(context.home.lock):
        assert look(context, "database").outcome == "ok"


@pytest.mark.parametrize("empty", [False, True])
def test_a_database_that_is_gone_after_a_night_is_74(pi: Pi, empty: bool) -> None:
    for rest in pi.home.glob("agent.db*"):
        rest.unlink()
    if empty:
        (pi.home / "agent.db").touch()
    checks = report(pi, code=74, PI_AGENT_ORACLE_URL=NOWHERE)
    assert failures(checks) == ["database", "oracle"]
    assert "is missing" in str(checks["database"]["found"]) and "spender.lock" in str(checks["database"]["advice"])
    assert (pi.home / "agent.db").exists() == empty


def test_more_spent_than_the_quota_is_told(pi: Pi, context: Context) -> None:
    config = pi.home / "config.toml"
    assert "daily_quota = 50" in config.read_text()
    config.write_text(config.read_text().replace("daily_quota = 50", "daily_quota = 4"))
    finding = look(context, "database")
    assert finding.outcome == "warning" and "charged with 5 queries of 4" in finding.found


def test_an_older_database_and_a_huge_log_are_told(pi: Pi, context: Context) -> None:
    with contextlib.suppress(FileNotFoundError):
        (pi.home / "agent.db-shm").unlink()
    with (pi.home / "agent.db-wal").open("wb") as stream:
        stream.truncate(100_000_000)
    finding = look(context, "database")
    assert finding.outcome == "warning" and "100.0 MB of write-ahead log" in finding.found
    (pi.home / "agent.db-wal").unlink()
    (pi.home / "agent.db-shm").unlink(missing_ok=True)
    change(pi, "PRAGMA user_version=1")
    finding = look(context, "database")
    assert finding.outcome == "warning" and "older version" in finding.found


def test_pictures_that_changed_or_went_are_74(pi: Pi, context: Context) -> None:
    stored = sorted((pi.home / "images").glob("??/*.jpg"))
    data = bytearray(stored[0].read_bytes())
    data[1000] ^= 1
    stored[0].write_bytes(data)
    finding = look(context, "pictures")
    assert (finding.outcome, finding.exit_code) == ("failed", 74) and stored[0].stem in finding.advice
    assert "0 of 5 are missing, 1 of 5 read are damaged" in finding.found
    stored[0].unlink()
    assert "1 of 5 are missing, 0 of 4 read are damaged" in look(context, "pictures").found
    (pi.home / "agent.db").write_bytes(b"no database" * 1000)
    assert look(context, "pictures").outcome == "ok", "without a database each is still compared with its own name"


def test_files_that_a_killed_add_left_are_named_but_not_those_of_one_at_work(pi: Pi, context: Context) -> None:
    folder = next((pi.home / "images").glob("??"))
    old, young = folder / ".abcd.jpg.x1y2", folder / ".abcd.jpg.z3"
    old.touch()
    young.touch()
    assert look(context, "pictures").outcome == "ok"
    os.utime(old, (time.time() - 3600,) * 2)
    finding = look(context, "pictures")
    assert finding.outcome == "warning" and f"1 left-over temporary files, such as {old}" in finding.found
    command = finding.advice.removeprefix("remove them: ")
    subprocess.run(["bash", "-c", command], check=True)
    assert (old.exists(), young.exists(), len(list(folder.parent.glob("??/*.jpg")))) == (False, True, 5)
    assert look(context, "pictures").outcome == "ok"


# -- the last run ------------------------------------------------------------------------------------------------------


def test_how_the_last_run_ended(pi: Pi, context: Context) -> None:
    assert "ended with: done" in look(context, "last_run").found
    change(pi, "UPDATE run SET outcome='LockedOut'")
    assert look(context, "last_run").outcome == "warning"
    change(pi, "UPDATE run SET outcome='BudgetSpent'")
    assert look(context, "last_run").outcome == "ok"
    change(pi, "UPDATE run SET outcome=NULL, ended_at=NULL")
    finding = look(context, "last_run")
    assert finding.outcome == "warning" and "interrupted" in finding.found
    with spender_lock(context.home.lock):
        assert f"is running (process {os.getpid()})" in look(context, "last_run").found
    later = Clock(lambda: time.time() + 3 * 366 * 86400)
    change(pi, "UPDATE run SET outcome='done', ended_at=started_at + 1")
    finding = look(replace(context, clock=later), "last_run")
    assert finding.outcome == "warning" and "1098 days ago" in finding.found and "timer" in finding.advice
    change(pi, "DELETE FROM run")
    assert look(context, "last_run").found == "nothing was collected yet"


# -- the system --------------------------------------------------------------------------------------------------------


def system(root: Path, **files: str) -> Path:
    """A folder that looks like the root of a system."""
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_kernel_that_ignores_memory_limits_is_told_where_to_change_it(context: Context, tmp_path: Path) -> None:
    groups = "sys__fs__cgroup__cgroup_DOT_controllers"
    memory = {"proc__meminfo": "MemTotal:        3884404 kB\nMemFree: 1 kB\n"}
    on = system(tmp_path / "on", **{groups: "cpuset cpu io memory pids\n"}, **memory)
    finding = look(replace(context, root=on), "memory")
    assert (finding.outcome, finding.found) == ("ok", "3793 MiB of memory; the memory controller is on")
    for name, file in (("new", "boot__firmware__cmdline_DOT_txt"), ("old", "boot__cmdline_DOT_txt")):
        off = system(tmp_path / name, **{groups: "cpuset cpu io pids\n", file: "console=tty1\n"}, **memory)
        finding = look(replace(context, root=off), "memory")
        place = file.replace("__", "/").replace("_DOT_", ".")
        assert finding.outcome == "warning"
        assert f"cgroup_enable=memory to the one line of /{place}" in finding.advice


def test_swap_on_a_card_is_a_warning_and_zram_is_not(context: Context, tmp_path: Path) -> None:
    head = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
    card = "/dev/mmcblk0p2 / ext4 rw,noatime 0 0\n"
    for name, swaps, mounts, outcome in (
        ("file", "/var/swap file 102396 0 -2\n", card, "warning"),
        ("part", "/dev/mmcblk0p3 partition 102396 0 -2\n", card, "warning"),
        ("zram", "/dev/zram0 partition 102396 0 100\n", card, "ok"),
        ("disk", "/var/swap file 102396 0 -2\n", "/dev/sda2 / ext4 rw 0 0\n", "ok"),
        ("none", "", card, "ok"),
    ):
        root = system(tmp_path / name, proc__swaps=head + swaps, proc__mounts=mounts)
        assert look(replace(context, root=root), "swap").outcome == outcome, name


def shim(tmp_path: Path, script: str) -> str:
    """A `python` that does something else."""
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("kill -ILL $$", "SIGILL: it met an instruction that this processor does not have"),
        ("kill -SEGV $$", "SIGSEGV: it crashed"),
        ("kill -KILL $$", "SIGKILL"),
        ("echo \"ImportError: no module named 'onnxruntime'\" >&2; exit 1", "no module named 'onnxruntime'"),
        ("exit 1", "no reason given"),
    ],
)
def test_a_runtime_that_dies_is_a_line_and_not_the_end(
    context: Context, tmp_path: Path, script: str, words: str
) -> None:
    finding = look(replace(context, python=shim(tmp_path, script)), "runtime")
    assert (finding.outcome, finding.exit_code) == ("failed", 65) and words in finding.found


def test_a_runtime_that_computes_wrongly_or_for_ever_fails(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = importlib.import_module("pi_agent.checks.runtime")
    assert look(context, "runtime").found.startswith("ONNX Runtime 1.")
    monkeypatch.setattr(runtime, "_PATIENCE", 0.2)
    finding = look(replace(context, python=shim(tmp_path, "exec sleep 60")), "runtime")
    assert finding.outcome == "failed" and "did nothing" in finding.found
    monkeypatch.setattr(runtime, "_PATIENCE", 120.0)
    monkeypatch.setattr(runtime, "_PROGRAM", runtime._PROGRAM.replace("== 4", "== 5"))
    assert "it computes wrongly" in look(replace(context, python=sys.executable), "runtime").found
