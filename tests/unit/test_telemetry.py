"""The figures for Prometheus are what the ledger knows, in the format that Prometheus reads, and never stop a run."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from pi_agent.agent import Agent
from pi_agent.config import BudgetConfig, Config, MetricsConfig, OracleConfig
from pi_agent.contract.answers import Answer
from pi_agent.contract.images import QueryImage
from pi_agent.paths import Home
from pi_agent.store.ledger import Budget
from pi_agent.store.lock import spender_lock
from pi_agent.surroundings import Spender, next_run, spender
from pi_agent.telemetry import Run, Snapshot, snapshot, textfile_lines, write_textfile
from tests.support import query_jpeg
from tests.support_time import FakeTime

PREFIX = "pi_agent_"


@pytest.fixture
def time() -> FakeTime:
    return FakeTime(true=1_795_219_200.0)


@pytest.fixture
def agent(tmp_path: Path, time: FakeTime) -> Iterator[Agent]:
    """Three pictures queued, nothing asked, figures wanted in `figures/agent.prom` below the home folder."""
    config = Config(OracleConfig("http://oracle:8000"), BudgetConfig(10), metrics=MetricsConfig("figures/agent.prom"))
    with Agent(Home(tmp_path / "home"), config, time.clock) as made:
        (tmp_path / "home" / "figures").mkdir()
        images = [QueryImage.of(query_jpeg(seed)) for seed in range(3)]
        for image in images:
            made.pictures.put(image)
        made.queue.add([(image.sha256, "photo") for image in images], 0, time.now())
        yield made


def textfile(agent: Agent) -> Path:
    return agent.home.folder / "figures" / "agent.prom"


def read(text: str) -> dict[str, tuple[float, dict[str, str]]]:
    """Value and labels by name, as Prometheus' own parser sees them; every family has one sample, HELP and TYPE."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.type == "gauge" and family.documentation and len(family.samples) == 1
        sample = family.samples[0]
        assert sample.timestamp is None, "node_exporter refuses timestamps"
        found[sample.name.removeprefix(PREFIX)] = (sample.value, sample.labels)
    return found


def night(agent: Agent, time: FakeTime, outcome: str) -> None:
    """One answered query, one without an answer, one under way and one only reserved, in a run that ends."""
    run = agent.start_run()
    agent.ledger.open_window("the test")
    hashes = [row["sha256"] for row in agent.database.rows("SELECT sha256 FROM image ORDER BY seq")]
    answer = Answer("scores", ("a", "b"), np.array([0.25, 0.75], np.float32))
    with agent.ledger.turn() as turn:
        numbers = [turn.reserve(sha256) for sha256 in (*hashes, hashes[0])]
        for number in numbers[:3]:
            turn.mark_sent(number)
    with agent.ledger.turn() as turn:
        turn.settle(numbers[0], answer, None)
        turn.close_unanswered(numbers[1], "HTTP 500")
    agent.queue.set_problem(hashes[2], "refused")
    time.sleep(60)
    agent.end_run(run, 1, outcome)


def test_the_file_says_what_the_ledger_knows(agent: Agent, time: FakeTime) -> None:
    night(agent, time, "BudgetSpent")
    write_textfile(agent)
    values = read(textfile(agent).read_text())
    assert {name: value for name, (value, _) in values.items() if "bytes" not in name} == {
        "last_run_start_timestamp_seconds": 1_795_219_200,
        "last_run_end_timestamp_seconds": 1_795_219_260,
        "last_success_timestamp_seconds": 1_795_219_260,
        "budget_quota": 10,
        "budget_spent": 3,
        "budget_reserved": 1,
        "budget_remaining": 6,
        "budget_reset_timestamp_seconds": 1_795_219_200 + 24 * 3600 - 1_795_219_200 % (24 * 3600),
        "locked_until_timestamp_seconds": 0,
        "queue_waiting": 1,
        "queue_problems": 1,
        "answers": 1,
        "answered_images": 1,
        "spent_without_answer": 1,
        "last_run_outcome": 1,
    }
    assert values["last_run_outcome"][1] == {"oracle": "http:http://oracle:8000", "outcome": "BudgetSpent"}
    database = agent.home.database
    wal = database.with_name("agent.db-wal")
    assert values["database_bytes"][0] == database.stat().st_size + wal.stat().st_size > 4096
    assert values["disk_free_bytes"][0] > 0


def test_before_the_first_run_all_moments_are_0(agent: Agent) -> None:
    write_textfile(agent)
    values = read(textfile(agent).read_text())
    assert {value for name, (value, _) in values.items() if "last" in name and "seconds" in name} == {0}
    assert values["last_run_outcome"][1]["outcome"] == "none"


def test_a_failed_night_is_no_success_and_a_lock_out_shows(agent: Agent, time: FakeTime) -> None:
    night(agent, time, "done")
    first = time.now()
    time.sleep(600)
    run = agent.start_run()
    until = agent.ledger.lock_out(time.now() + 3600)
    agent.end_run(run, 0, "LockedOut")
    write_textfile(agent)
    values = read(textfile(agent).read_text())
    assert values["last_success_timestamp_seconds"][0] == first
    assert values["last_run_end_timestamp_seconds"][0] == time.now()
    assert values["last_run_outcome"][1]["outcome"] == "LockedOut"
    assert (values["locked_until_timestamp_seconds"][0], values["budget_remaining"][0]) == (until, 0)
    agent.start_run()
    assert read("".join(f"{line}\n" for line in textfile_lines(snapshot(agent), "o")))["last_run_outcome"][1] == {
        "oracle": "o",
        "outcome": "unfinished",
    }


@given(oracle=st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r")), outcome=st.text('\\"\nab}='))
def test_any_name_can_be_a_label(oracle: str, outcome: str) -> None:
    budget = Budget("2026-11-21", 10, 3, 0, 0, 7, 100.0, None)
    figures = Snapshot(budget, 0, 0, 0, 0, 0, 0, Run(1.0, 2.0, 0, outcome), None, 0, 0, 0)
    text = "".join(f"{line}\n" for line in textfile_lines(figures, oracle))
    values = read(text)
    assert values["last_run_outcome"][1] == {"oracle": oracle, "outcome": outcome or "unfinished"}


def test_everybody_may_read_the_file_whatever_the_umask(agent: Agent) -> None:
    before = os.umask(0o077)
    try:
        write_textfile(agent)
    finally:
        os.umask(before)
    assert stat.S_IMODE(textfile(agent).stat().st_mode) == 0o644
    assert [p.name for p in textfile(agent).parent.iterdir()] == ["agent.prom"]


def test_an_old_file_is_replaced_whole_and_kept_where_that_fails(agent: Agent, time: FakeTime) -> None:
    write_textfile(agent)
    first = textfile(agent).read_text()
    time.sleep(1)
    night(agent, time, "done")
    write_textfile(agent)
    assert textfile(agent).read_text() != first
    agent.database.close()
    kept = textfile(agent).read_text()
    write_textfile(agent)
    assert textfile(agent).read_text() == kept


@pytest.mark.parametrize("place", ["absent/x.prom", "agent.db/x.prom", "images.prom"])
def test_a_path_that_cannot_be_written_is_one_warning(
    agent: Agent, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    (agent.home.folder / "images.prom").mkdir()
    object.__setattr__(agent.config.metrics, "textfile", place)
    write_textfile(agent)
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert caplog.messages[0].startswith("metrics.unwritten path=") and "kind=CannotCreate" in caplog.messages[0]
    assert not list(agent.home.folder.rglob(".*"))


def test_without_a_path_nothing_is_read_or_written(agent: Agent, caplog: pytest.LogCaptureFixture) -> None:
    object.__setattr__(agent.config.metrics, "textfile", "")
    agent.database.close()
    write_textfile(agent)
    assert not caplog.records


@pytest.mark.parametrize("name", ["metrics.txt", "prom", "x.prom/"])
def test_a_name_that_node_exporter_would_not_read_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"\.prom"):
        MetricsConfig(name)


# -- who is spending, and when the next run starts ---------------------------------------------------------------------


def test_a_lock_that_somebody_holds_names_the_process(agent: Agent) -> None:
    assert spender(agent.home.lock) == Spender(False), "no file yet"
    with spender_lock(agent.home.lock):
        assert spender(agent.home.lock) == Spender(True, os.getpid())
    assert spender(agent.home.lock) == Spender(False), "a file that is left behind locks nothing"


def test_looking_at_the_lock_never_turns_a_run_away(agent: Agent, tmp_path: Path) -> None:
    agent.home.lock.write_text("4711\n")
    state = agent.home.lock.stat()
    where = f"{os.major(state.st_dev):02x}:{os.minor(state.st_dev):02x}:{state.st_ino}"
    table = tmp_path / "locks"
    for line, expected in (
        (f"1: FLOCK  ADVISORY  WRITE 99 {where} 0 EOF", Spender(True, 99)),
        (f"1: POSIX  ADVISORY  WRITE 99 {where} 0 EOF", Spender(False)),
        (f"1: FLOCK  ADVISORY  WRITE 0 {where} 0 EOF", Spender(True, 4711)),
        (f"1: FLOCK  ADVISORY  WRITE 4711 00:63:{state.st_ino} 0 EOF", Spender(True, 4711)),
        (f"1: FLOCK  ADVISORY  WRITE 98 00:63:{state.st_ino} 0 EOF", Spender(False)),
        (f"1: FLOCK  ADVISORY  WRITE 99 {where}1 0 EOF", Spender(False)),
        ("1: -> FLOCK", Spender(False)),
        ("", Spender(False)),
    ):
        table.write_text(line + "\n")
        assert spender(agent.home.lock, table) == expected, line
    assert spender(agent.home.lock, tmp_path / "absent") == Spender(None)


@pytest.mark.parametrize(
    ("script", "moment"),
    [
        ("echo @1795305600", 1_795_305_600.0),
        ("echo", None),
        ("echo n/a", None),
        ("echo no bus >&2; exit 1", None),
        ("exec sleep 60", None),
    ],
)
def test_the_next_run_is_what_systemd_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, moment: float | None
) -> None:
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f"#!/bin/sh\n[ \"$1 $2\" = 'show pi-agent-collect.timer' ] || exit 9\n{script}\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert next_run(booted=tmp_path) == moment
    assert next_run(booted=tmp_path / "absent") is None, "a system without systemd is not even asked"
