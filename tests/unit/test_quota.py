"""The quota counts exactly, locks out, survives restarts and clocks that step back; threads and processes share it."""

from __future__ import annotations

import contextlib
import multiprocessing
import sqlite3
import threading
from functools import partial
from pathlib import Path

import pytest

from pi_agent.contract.errors import CannotCreate, ConfigError
from pi_agent.contract.windows import Period
from training_host.server import quota as quota_module
from training_host.server.quota import Quota, Usage

HOUR = Period(3600)
START = 3600.0 * 1000


def test_a_client_gets_its_quota_and_is_then_locked_out_to_the_end_of_the_window() -> None:
    quota = Quota(3, HOUR)
    decisions = [quota.admit("pi", START + i) for i in range(5)]
    assert [d.admitted for d in decisions] == [True, True, True, False, False]
    assert [d.remaining for d in decisions] == [2, 1, 0, 0, 0]
    assert [d.locked_until for d in decisions] == [None, None, None, START + 3600, START + 3600]
    assert {d.reset_at for d in decisions} == {START + 3600}
    assert quota.history() == [Usage("pi", int(START), 3, 2)]


def test_the_next_window_unlocks_at_its_first_moment() -> None:
    quota = Quota(1, HOUR)
    for _ in range(2):
        quota.admit("pi", START)
    assert not quota.admit("pi", START + 3599.999).admitted
    assert quota.admit("pi", START + 3600).admitted
    assert [u.counted for u in quota.history()] == [1, 1]


def test_clients_do_not_share_a_quota_or_a_lock() -> None:
    quota = Quota(1, HOUR)
    quota.admit("a", START)
    assert not quota.admit("a", START).admitted
    assert quota.state("b", START).remaining == 1
    assert quota.admit("b", START).admitted


def test_looking_costs_nothing() -> None:
    quota = Quota(2, HOUR)
    for _ in range(10):
        assert quota.state("pi", START).remaining == 2
    assert quota.history() == []


def test_refusing_notes_only_who_is_locked_out() -> None:
    quota = Quota(1, HOUR)
    quota.admit("pi", START)
    assert quota.refuse("pi", START).locked_until is None
    assert quota.history() == [Usage("pi", int(START), 1, 0)]
    quota.admit("pi", START)
    assert quota.refuse("pi", START).locked_until == START + 3600
    assert quota.history() == [Usage("pi", int(START), 1, 2)]


def test_a_quota_of_zero_admits_nobody() -> None:
    assert not Quota(0, HOUR).admit("pi", START).admitted


def test_a_clock_that_steps_back_returns_no_quota() -> None:
    quota = Quota(1, HOUR)
    assert quota.admit("pi", START + 3600).admitted
    assert quota.state("pi", START).remaining == 0
    decision = quota.admit("pi", START - 86400)
    assert not decision.admitted
    assert decision.locked_until == START + 7200
    # Another client's rows hold the window too: it belongs to the server, not to one client.
    assert quota.admit("other", START).window.start == START + 3600


def test_the_count_outlives_the_process_that_made_it(tmp_path: Path) -> None:
    first = Quota(2, HOUR, tmp_path / "quota.db")
    first.admit("pi", START)
    first.close()
    second = Quota(2, HOUR, tmp_path / "quota.db")
    assert second.state("pi", START).remaining == 1
    second.admit("pi", START)
    assert not second.admit("pi", START).admitted
    second.close()
    third = Quota(1000, HOUR, tmp_path / "quota.db")
    assert third.state("pi", START).locked_until == START + 3600, "a larger quota does not end a lock-out"


def test_a_longer_period_still_sees_the_counts_of_the_shorter_one(tmp_path: Path) -> None:
    short = Quota(5, HOUR, tmp_path / "quota.db")
    for hour in range(3):
        short.admit("pi", hour * 3600.0)
    short.close()
    assert Quota(5, Period(86400), tmp_path / "quota.db").state("pi", 3 * 3600.0).remaining == 2


def test_what_was_counted_is_durable_before_the_decision_is_known(tmp_path: Path) -> None:
    quota = Quota(5, HOUR, tmp_path / "quota.db")
    quota.admit("pi", START)
    with sqlite3.connect(tmp_path / "quota.db") as other:
        assert other.execute("SELECT counted FROM quota").fetchone() == (1,)


@pytest.mark.parametrize("store", [None, "quota.db"])
def test_threads_racing_for_the_last_unit_get_it_once(tmp_path: Path, store: str | None) -> None:
    quota = Quota(20, HOUR, tmp_path / store if store else None)
    for _ in range(19):
        quota.admit("pi", START)
    together = threading.Barrier(8)
    admitted = []

    def race() -> None:
        together.wait()
        admitted.append(quota.admit("pi", START).admitted)

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(admitted) == [False] * 7 + [True]
    assert quota.history() == [Usage("pi", int(START), 20, 7)]


def _spend(store: Path, requests: int, together: object, answers: object) -> None:
    together.wait()  # type: ignore[attr-defined]
    quota = Quota(30, HOUR, store)
    answers.put(sum(quota.admit("pi", START).admitted for _ in range(requests)))  # type: ignore[attr-defined]


def test_processes_on_one_store_never_admit_more_than_the_quota(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    together, answers = context.Barrier(2), context.Queue()
    arguments = (tmp_path / "quota.db", 25, together, answers)
    processes = [context.Process(target=_spend, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    admitted = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sum(admitted) == 30
    assert Quota(30, HOUR, tmp_path / "quota.db").history() == [Usage("pi", int(START), 30, 20)]


def test_a_store_that_another_process_is_just_creating_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite itself does not wait for the lock that write-ahead needs; both processes come to that point at once."""
    store = tmp_path / "quota.db"
    connect = partial(sqlite3.connect, store, isolation_level=None, check_same_thread=False)
    with contextlib.closing(connect()) as other, contextlib.closing(connect(timeout=10)) as mine:
        other.execute("CREATE TABLE t (x)")
        other.execute("BEGIN IMMEDIATE")
        with monkeypatch.context() as patch, pytest.raises(sqlite3.OperationalError, match="locked"):
            patch.setattr(quota_module, "_BUSY_SECONDS", 0.1)
            quota_module._write_ahead(mine)
        timer = threading.Timer(0.3, other.execute, ("COMMIT",))
        timer.start()
        quota_module._write_ahead(mine)
        timer.join()
        assert mine.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_failed_write_admits_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    quota = Quota(5, HOUR, tmp_path / "quota.db")
    quota._db.execute("PRAGMA query_only = ON")  # what a disk gone read-only looks like
    with pytest.raises(sqlite3.OperationalError):
        quota.admit("pi", START)
    quota._db.execute("PRAGMA query_only = OFF")
    assert quota.state("pi", START).remaining == 5


def test_another_programs_files_are_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database at all, but long enough to be read as one" * 20)
    with pytest.raises(ConfigError):
        Quota(1, HOUR, text)
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE theirs (x)")
    with pytest.raises(ConfigError):
        Quota(1, HOUR, tmp_path / "other.db")


def test_a_store_that_cannot_be_made_is_exit_73(tmp_path: Path) -> None:
    with pytest.raises(CannotCreate):
        Quota(1, HOUR, tmp_path / "no" / "such" / "quota.db")
