"""What a power cut, a stop or a second process leaves behind: killed agents, and the server's own count."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import socket
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from pi_agent.contract.files import sha256_hex
from tests.support import tiny_model_folder
from tests.support_agent import Pi, pictures
from tests.support_hostile import Hostile, answer, hostile, silence
from tests.support_server import serving

YEAR = ("--period", "366d")
SEED = int(os.environ.get("MAGPIE_CRASH_SEED", random.SystemRandom().randrange(10**6)))


def wait_until(pi: Pi, sql: str, process: subprocess.Popen[str]) -> None:
    """Look into the agent's database until `sql` says 1, or its process has ended."""
    while process.poll() is None:
        with contextlib.suppress(sqlite3.Error):
            if pi.rows(sql) == [(1,)]:
                return
        time.sleep(0.002)


def wait_for_question(server: Hostile, count: int, process: subprocess.Popen[str]) -> None:
    """Wait until the oracle has heard the n-th question."""
    while server.asked < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def answers(pi: Pi) -> dict[int, tuple[str, bytes]]:
    """Every settled answer, by attempt."""
    sql = "SELECT answer.attempt, answer.image, vector FROM answer JOIN attempt ON id=attempt WHERE state='settled'"
    return {attempt: (image, vector) for attempt, image, vector in pi.rows(sql)}


@pytest.mark.parametrize("in_flight", [1, 8])
def test_eight_kills_lose_no_answer_and_ask_nothing_twice(tmp_path: Path, in_flight: int) -> None:
    logging.getLogger(__name__).warning("MAGPIE_CRASH_SEED=%d", SEED)  # shown where the test fails
    rng, pi, store = random.Random(SEED), Pi(tmp_path / "home"), tmp_path / "quota.db"
    model, images, kills = tiny_model_folder(tmp_path / "tiny"), 120, 8
    quota, at_once = images + kills * in_flight, {"PI_AGENT_ORACLE_IN_FLIGHT": str(in_flight)}
    with serving(model, "--quota", quota, "--quota-period", "366d", "--quota-store", store) as served:
        pi.init(served.url, quota, *YEAR)
        pi.done("add", pictures(tmp_path / "photos", images))
        seen: dict[int, tuple[str, bytes]] = {}
        killed = 0
        for number in range(kills):
            goal = number * 12 + rng.randrange(12)
            process = pi.start("collect", **at_once)
            wait_until(pi, f"SELECT count(*) >= {goal} FROM answer", process)
            time.sleep(rng.uniform(0, 0.02))
            process.kill()
            process.communicate()
            killed += process.returncode == -signal.SIGKILL
            now = answers(pi)
            assert now.items() >= seen.items(), "what was settled stays, bit for bit"
            seen = now
        last = pi.done("collect", **at_once)
        with contextlib.closing(sqlite3.connect(store)) as rows:
            ((counted, refused),) = rows.execute("SELECT counted, refused FROM quota").fetchall()
        budget = pi.done("budget")
    assert killed > kills // 2, "the others had ended before"
    assert last["queue"] == 0 and last["failed"] == 0
    assert answers(pi).items() >= seen.items()
    assert pi.rows("SELECT count(*), count(DISTINCT image) FROM attempt WHERE state='settled'") == [(images, images)]
    assert refused == 0
    assert counted <= budget["spent"] <= images + killed * in_flight, "each kill costs what was under way at most"
    assert budget["spent"] <= quota and budget["reserved"] == 0
    assert pi.rows("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_in_the_middle_of_a_question_is_tidy(tmp_path: Path, stop: signal.Signals) -> None:
    pi = Pi(tmp_path / "home")

    def first_is_good(connection: socket.socket, number: int) -> None:
        connection.sendall(answer(0.5, 0.5)) if number == 1 else silence(connection, number)

    with hostile(first_is_good) as server:
        pi.init(server.url, 9, *YEAR)
        pi.done("add", pictures(tmp_path / "photos", 3))
        process = pi.start("collect", "--json", PI_AGENT_ORACLE_IN_FLIGHT="1")
        wait_for_question(server, 2, process)
        process.send_signal(stop)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in stderr and '"interrupted"' in stderr
    status = pi.done("status")
    assert (status["answers"], status["queue"]) == (1, 2)
    assert (status["last_run"]["outcome"], status["last_run"]["settled"]) == ("interrupted", 1)
    assert pi.done("budget")["spent"] == 2, "the question that was under way stays spent"


def test_one_agent_spends_and_the_others_may_look(tmp_path: Path) -> None:
    pi, folder = Pi(tmp_path / "home"), pictures(tmp_path / "photos", 2)
    with hostile(silence) as server:
        pi.init(server.url, 9, *YEAR)
        pi.done("add", folder)
        first = pi.start("collect")
        try:
            wait_for_question(server, 1, first)
            busy = pi.fails("collect")
            assert (busy["exit"], busy["kind"]) == (75, "Busy")
            assert pi.fails("query", folder / "001.jpg")["kind"] == "Busy"
            assert pi.done("budget")["spent"] == 1
            assert pi.done("status")["queue"] == 2
            assert pi.done("add", pictures(tmp_path / "more", 1, first=5))["added"] == 1
            assert server.asked == 1
        finally:
            first.kill()
            first.communicate()


def test_adding_is_killed_and_done_again(tmp_path: Path) -> None:
    pi, folder = Pi(tmp_path / "home"), pictures(tmp_path / "photos", 100)
    pi.init("http://127.0.0.1:9", 9)
    process = pi.start("add", folder)
    wait_until(pi, "SELECT count(*) > 0 FROM image", process)
    process.kill()
    process.communicate()
    again = pi.done("add", folder)
    assert again["added"] + again["known"] == again["queue"] == 100
    assert pi.rows("SELECT count(*) FROM image") == [(100,)]
    stored = list(pi.home.rglob("*.jpg"))
    assert len(stored) == 100
    assert all(sha256_hex(path.read_bytes()) == path.stem for path in stored), "whole or absent"
