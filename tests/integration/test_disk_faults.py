"""A disk that is full or broken at any one write: exit 74 with a hint, nothing settled is lost, nothing is overspent.

Every command is run again and again, and each time the next write of it fails: once, or from there on.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pi_agent.contract.files import sha256_hex
from pi_agent.contract.transfer_set import read_transfer_set
from tests.support_agent import Pi, pictures
from tests.support_faults import BROKEN, FULL, Fault, remains, sqlite_library
from tests.support_forks import ROOT, Forks, Struck, forks
from tests.support_hostile import Hostile, answer, hostile

pytestmark = pytest.mark.skipif(sqlite_library() is None, reason="this Python hides the functions of its SQLite")

QUOTA, ANSWERED, WAITING = 12, 1, 2
FAULTS = {
    "a disk that is full from then on": Fault(operations=FULL, error=errno.ENOSPC, lasting=True, torn=True),
    "a disk that was full for a moment": Fault(operations=FULL, error=errno.ENOSPC),
    "a card that writes nothing any more": Fault(operations=BROKEN, error=errno.EIO, lasting=True),
    "a card that fails once": Fault(operations=BROKEN, error=errno.EIO, torn=True),
}


def numbered(connection: socket.socket, number: int) -> None:
    """The n-th answer can be told from all others, in float32 as well."""
    connection.sendall(answer(number / 65536, 1 - number / 65536))


@dataclass(frozen=True)
class Stage:
    """Where the sweep plays: agents in forks, an oracle that counts, a home to start from."""

    agents: Forks
    oracle: Hostile
    folder: Path

    def fresh(self) -> Path:
        """A copy of the home with one answer and two pictures that wait."""
        home = self.folder / "home"
        shutil.rmtree(home, ignore_errors=True)
        return Path(shutil.copytree(self.folder / "ready", home))


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    memory = Path("/dev/shm")  # thousands of syncs
    with (
        tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name,
        forks() as agents,
        hostile(numbered) as oracle,
    ):
        folder, pi = Path(name), Pi(Path(name) / "ready")
        pi.init(oracle.url, QUOTA, "--period", "366d")
        pi.done("add", pictures(folder / "photos", ANSWERED + WAITING))
        pi.done("collect", "--limit", ANSWERED)
        pictures(folder / "more", 2, first=50)
        yield Stage(agents, oracle, folder)


EVERY = "MAGPIE_EVERY_FAULT" in os.environ
"""Also the kinds of faults that the long tests leave out otherwise: minutes more."""
kinds = pytest.mark.parametrize("kind", FAULTS.values(), ids=[name.replace(" ", "-") for name in FAULTS])
_WORST = {name: fault for name, fault in FAULTS.items() if EVERY or fault.torn}
thorough = pytest.mark.parametrize("kind", _WORST.values(), ids=[name.replace(" ", "-") for name in _WORST])


def each(fault: Fault, run: Callable[[Fault], Struck]) -> Iterator[Struck]:
    """Run it with the first write failing, with the second ..., until it needs no more writes."""
    number = 0
    while True:
        number += 1
        ended = run(Fault(number, fault.operations, fault.error, fault.lasting, fault.torn))
        if not ended.failed:
            assert number > 1, "it writes nothing at all"
            return
        yield ended


def explained(ended: Struck) -> list[str]:
    """What is wrong with the exit code and the message of a failure, if anything."""
    lines = ended.stderr.splitlines()
    if ended.code == 74 and lines[-2].startswith("error: ") and lines[-1].startswith("  hint: "):
        return []
    return [f"{ended.failed[0]}: exit {ended.code}, {ended.stderr.strip()!r}"]


def settled(home: Path) -> dict[int, tuple[object, bytes]]:
    """Every answer in the database, by attempt; the database must be sound."""
    with contextlib.closing(sqlite3.connect(home / "agent.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        return {number: rest for number, *rest in database.execute("SELECT attempt, image, vector FROM answer")}


@thorough
@pytest.mark.parametrize("in_flight", [1, 2])
def test_collect(stage: Stage, kind: Fault, in_flight: int) -> None:
    """What was settled stays; what was asked is known to the ledger; a calm run asks only what is still open."""
    wrong: list[str] = []
    flight = {"PI_AGENT_ORACLE_IN_FLIGHT": str(in_flight)}
    known = settled(stage.fresh())
    asked = 0

    def run(fault: Fault) -> Struck:
        nonlocal asked
        asked = stage.oracle.asked
        return stage.agents.run(stage.fresh(), "collect", fault=fault, **flight)

    for ended in each(kind, run):
        home, where = stage.folder / "home", ended.failed[0]
        heard = stage.oracle.asked - asked
        after = settled(home)
        if not known.items() <= after.items():
            wrong.append(f"{where}: settled answers are lost")
        if heard > WAITING:
            wrong.append(f"{where}: {heard} questions for {WAITING} pictures")
        if len(after) - len(known) < heard - in_flight:
            wrong.append(f"{where}: {heard} answers came, {len(after) - len(known)} are stored")
        if ended.code != 0:
            wrong += explained(ended)
        elif len(after) != len(known) + WAITING:
            wrong.append(f"{where}: exit 0, but {len(after)} answers")
        calm = stage.agents.run(home, "collect", "--json", **flight)
        if (calm.code, calm.json["queue"]) != (0, 0):
            wrong.append(f"{where}: the next run does not finish: {calm}")
        final = settled(home)
        if not after.items() <= final.items() or len(final) != ANSWERED + WAITING:
            wrong.append(f"{where}: {len(final)} answers after the next run")
        if len({vector for _, vector in final.values()}) != len(final):
            wrong.append(f"{where}: one answer stands for two pictures")
        spent, heard = QUOTA - calm.json["remaining"], stage.oracle.asked - asked + ANSWERED
        if not heard <= spent <= heard + in_flight:
            wrong.append(f"{where}: the oracle heard {heard} questions, the ledger knows of {spent}")
    assert not wrong, "\n".join(wrong)


@thorough
def test_query(stage: Stage, kind: Fault) -> None:
    """One picture that was never asked: it is answered once in the end, whatever failed before."""
    wrong: list[str] = []
    picture = stage.folder / "more" / "050.jpg"
    asked = 0

    def run(fault: Fault) -> Struck:
        nonlocal asked
        asked = stage.oracle.asked
        return stage.agents.run(stage.fresh(), "query", picture, "--json", fault=fault)

    for ended in each(kind, run):
        home, where = stage.folder / "home", ended.failed[0]
        heard = stage.oracle.asked - asked
        if ended.code != 0:
            wrong += [f"{where}: {ended}"] if ended.code != 74 or not ended.error["hint"] else []
        stored = len(settled(home)) - ANSWERED
        if heard > 1 or stored < (ended.code == 0):
            wrong.append(f"{where}: {heard} questions, {stored} answers")
        again = stage.agents.run(home, "query", picture, "--json")
        if again.code != 0 or again.json["cached"] != bool(stored) or len(settled(home)) != ANSWERED + 1:
            wrong.append(f"{where}: then {again}")
        if ended.code == 0 and again.json["scores"] != ended.json["scores"]:
            wrong.append(f"{where}: {again.json['scores']} instead of {ended.json['scores']}")
        heard = stage.oracle.asked - asked
        spent = stage.agents.run(home, "budget", "--json").json["spent"] - ANSWERED
        if not heard <= spent <= heard + 1:
            wrong.append(f"{where}: {heard} questions, {spent} spent")
    assert not wrong, "\n".join(wrong)


@kinds
def test_add(stage: Stage, kind: Fault) -> None:
    """Pictures are in the queue whole or not at all, and nothing half-written stays."""
    wrong: list[str] = []
    known = settled(stage.fresh())

    def run(fault: Fault) -> Struck:
        return stage.agents.run(stage.fresh(), "add", stage.folder / "more", fault=fault)

    for ended in each(kind, run):
        home, where = stage.folder / "home", ended.failed[0]
        if ended.code != 0:
            wrong += explained(ended)
        if settled(home) != known:
            wrong.append(f"{where}: the answers have changed")
        if remains(home) and "delete" not in where and not kind.lasting:
            wrong.append(f"{where}: {remains(home)} is left behind")
        if bad := [p.name for p in home.rglob("*.jpg") if p.name[0] != "." and sha256_hex(p.read_bytes()) != p.stem]:
            wrong.append(f"{where}: damaged {bad}")
        again = stage.agents.run(home, "add", stage.folder / "more", "--json")
        if again.code != 0 or again.json["queue"] != WAITING + 2:
            wrong.append(f"{where}: then {again}")
    assert not wrong, "\n".join(wrong)


@kinds
def test_export(stage: Stage, kind: Fault) -> None:
    """The tar is there whole, or neither it nor a temporary file; an older one stays as it was."""
    wrong: list[str] = []
    home, out = stage.fresh(), stage.folder / "out"

    def run(fault: Fault) -> Struck:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        (out / "night.tar").write_bytes(b"old")
        return stage.agents.run(home, "export", out / "night.tar", fault=fault)

    for ended in each(kind, run):
        where, names = ended.failed[0], sorted(p.name for p in out.iterdir())
        if ended.code != 0:
            wrong += explained(ended)
        data = (out / "night.tar").read_bytes()
        whole = data != b"old"
        if whole and len(list(read_transfer_set(out / "night.tar"))) != ANSWERED:
            wrong.append(f"{where}: it is not whole")
        if ended.code == 0 and not whole:
            wrong.append(f"{where}: exit 0, and the old file")
        if names != ["night.tar"] and not ("delete" in where or (kind.lasting and "delete" in kind.operations)):
            wrong.append(f"{where}: {names}")
    assert not wrong, "\n".join(wrong)


@kinds
def test_init(stage: Stage, kind: Fault) -> None:
    """The old configuration stays until the new one is there whole."""
    wrong: list[str] = []

    def run(fault: Fault) -> Struck:
        return stage.agents.run(stage.fresh(), "init", "--url", stage.oracle.url, "--daily-quota", 99, fault=fault)

    for ended in each(kind, run):
        home, where = stage.folder / "home", ended.failed[0]
        if ended.code != 0:
            wrong += explained(ended)
        quota = stage.agents.run(home, "budget", "--json").json["quota"]
        if quota not in (QUOTA, 99) or (ended.code == 0 and quota != 99):
            wrong.append(f"{where}: quota {quota}")
        if remains(home) and not ("delete" in where or (kind.lasting and "delete" in kind.operations)):
            wrong.append(f"{where}: {remains(home)}")
    assert not wrong, "\n".join(wrong)


@thorough
def test_the_first_command_in_an_empty_home(stage: Stage, kind: Fault) -> None:
    """The database is made whole or not at all; the next command makes it."""
    wrong: list[str] = []
    home = stage.folder / "new"

    def run(fault: Fault) -> Struck:
        shutil.rmtree(home, ignore_errors=True)
        Pi(home).home.mkdir()
        shutil.copy(stage.folder / "ready" / "config.toml", home)
        return stage.agents.run(home, "add", stage.folder / "more", fault=fault)

    for ended in each(kind, run):
        where = ended.failed[0]
        if ended.code != 0:
            wrong += explained(ended)
        again = stage.agents.run(home, "add", stage.folder / "more", "--json")
        if again.code != 0 or again.json["queue"] != 2 or settled(home):
            wrong.append(f"{where}: then {again}")
    assert not wrong, "\n".join(wrong)


@kinds
@pytest.mark.parametrize("verb", ["budget", "status"])
def test_looking(stage: Stage, kind: Fault, verb: str) -> None:
    wrong: list[str] = []
    home = stage.fresh()
    for ended in each(kind, lambda fault: stage.agents.run(home, verb, fault=fault)):
        wrong += explained(ended) if ended.code != 0 else []
    assert not wrong, "\n".join(wrong)


def on_a_small_disk(folder: Path, place: Path) -> None:
    """In a mount namespace of its own: the same with a real disk on which so many pages are free, as JSON lines."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], check=True)
    home, filler = place / "home", place / "filler"
    with forks() as agents:
        for free in range(0, 36, 2):
            shutil.rmtree(home, ignore_errors=True)
            shutil.copytree(folder / "ready", home)
            room = os.statvfs(place)
            with filler.open("wb") as stream:
                os.posix_fallocate(stream.fileno(), 0, max(1, room.f_bavail - free) * room.f_bsize)
            ended = agents.run(home, "collect")
            filler.unlink()
            after = len(settled(home))
            calm = agents.run(home, "collect", "--json")
            line = {"free": free, "code": ended.code, "stderr": ended.stderr, "settled": after, "final": calm.json}
            sys.stdout.write(json.dumps(line) + "\n")


def test_a_real_disk_with_little_room(stage: Stage, tmp_path: Path) -> None:
    call = "from tests.integration.test_disk_faults import *; on_a_small_disk(Path(sys.argv[1]), Path(sys.argv[2]))"
    mounting = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run(mounting, capture_output=True).returncode != 0:
        pytest.skip("mounting is not allowed here, not even in a namespace of one's own")
    before = stage.oracle.asked
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, "-c", call, str(stage.folder), str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    assert {run["code"] for run in runs} == {0, 74}, "from no room at all to room enough"
    lost = 0
    for run in runs:
        assert run["code"] == 0 or "\n  hint: free some disk space" in run["stderr"], run
        assert run["final"]["queue"] == 0 and run["settled"] >= ANSWERED
        lost += QUOTA - run["final"]["remaining"] - ANSWERED - WAITING
    asked = stage.oracle.asked - before
    assert asked - len(runs) * WAITING <= lost <= len(runs), "every question is in the ledger"
