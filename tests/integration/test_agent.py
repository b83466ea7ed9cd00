"""A night of the agent: real `pi-agent` processes against a real `train-host serve`, and what the server counted."""

from __future__ import annotations

import contextlib
import sqlite3
import tarfile
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from pi_agent.contract.transfer_set import add_member, read_transfer_set
from pi_agent.prepare import decode_query
from tests.support import CLASSES, query_jpeg
from tests.support_agent import Pi, pictures
from tests.support_server import KEY, serving
from training_host.predictor import load_predictor

YEAR = ("--period", "366d")
COLLECT = {"schema", "sent", "settled", "cached", "failed", "remaining", "queue", "day"}
COLLECT |= {"near_duplicates", "oracle_repeats_itself"}
BUDGET = {"schema", "day", "quota", "spent", "reserved", "refunded", "remaining", "resets_at", "locked_until"}
QUERY = {"schema", "classes", "scores", "label", "cached", "sha256"}


@pytest.fixture
def pi(tmp_path: Path) -> Pi:
    return Pi(tmp_path / "home")


def counts(store: Path) -> list[tuple[int, int]]:
    """What the server admitted and refused, window by window."""
    with contextlib.closing(sqlite3.connect(store)) as rows:
        return rows.execute("SELECT counted, refused FROM quota ORDER BY window_start").fetchall()


def batch(path: Path, seeds: range) -> Path:
    """A query batch."""
    with tarfile.open(path, "w") as tar:
        add_member(tar, "manifest.json", b"{}")
        for seed in seeds:
            add_member(tar, f"{seed}.jpg", query_jpeg(seed))
    return path


def test_a_night_from_init_to_export(pi: Pi, model: Path, tmp_path: Path) -> None:
    folder, store = pictures(tmp_path / "photos", 4), tmp_path / "quota.db"
    (folder / "broken.jpg").write_bytes(query_jpeg(0)[:500])
    (folder / "notes.txt").write_text("no picture")
    (tmp_path / "keys").write_text(f"pi:{KEY}\n")
    (tmp_path / "key").write_text(f"{KEY}\n")
    for secret in ("keys", "key"):
        (tmp_path / secret).chmod(0o600)
    arguments = ("--quota", 8, "--quota-period", "366d", "--quota-store", store, "--api-keys", tmp_path / "keys")
    with serving(model, *arguments) as served:
        pi.init(served.url, 8, *YEAR, "--api-key-file", tmp_path / "key")
        assert KEY not in (pi.home / "config.toml").read_text()

        added = pi.done("add", folder, batch(tmp_path / "b.tar", range(3, 6)), "--priority", 2)
        assert (added["schema"], added["added"], added["known"], added["queue"]) == ("add/1", 6, 1, 6)
        assert [Path(r["path"]).name for r in added["refused"]] == ["broken.jpg"]

        first = pi.done("collect", "--limit", 2)
        assert set(first) == COLLECT and first["schema"] == "collect/1"
        assert (first["sent"], first["settled"], first["cached"], first["queue"]) == (2, 2, 0, 4)
        assert first["remaining"] == 6

        again = pi.done("query", folder / "000.jpg")
        assert set(again) == QUERY and again["cached"]
        expected = load_predictor(model).scores(decode_query(query_jpeg(0)))
        np.testing.assert_allclose(
            np.float32(again["scores"]), expected, rtol=1e-5
        )  # another processor, another last digit
        assert again["classes"] == list(CLASSES)
        assert again["label"] == CLASSES[int(expected.argmax())]
        assert counts(store) == [(2, 0)], "an answer from the cache spends nothing"

        other = pictures(tmp_path / "other", 1, first=9) / "009.jpg"
        assert pi.done("query", other)["cached"] is False
        assert pi.done("query", other)["cached"] is True

        rest = pi.done("collect")
        assert (rest["schema"], rest["sent"], rest["settled"], rest["cached"], rest["queue"]) == (
            "collect/1",
            4,
            4,
            2,
            0,
        )
        assert pi.done("collect")["sent"] == 0

        budget = pi.done("budget")
        assert set(budget) == BUDGET
        assert (budget["quota"], budget["spent"], budget["remaining"], budget["locked_until"]) == (8, 7, 1, None)
        assert datetime.fromisoformat(budget["resets_at"]).timestamp() > time.time()
        assert counts(store) == [(7, 0)]
    status = pi.done("status")
    assert (status["schema"], status["queue"], status["answers"]) == ("status/1", 0, 7)
    assert status["last_run"]["outcome"] == "done"

    out = tmp_path / "night.tar"
    exported = pi.done("export", out)
    assert set(exported) == {"schema", "images", "answers", "oracle", "path"}
    assert (exported["images"], exported["answers"], exported["path"]) == (7, 7, str(out))
    items = list(read_transfer_set(out))
    assert [i.jpeg for i in items] == [query_jpeg(seed) for seed in (0, 1, 2, 3, 4, 5, 9)]
    for item in items:
        np.testing.assert_allclose(item.mean, load_predictor(model).scores(decode_query(item.jpeg)), rtol=1e-5)
    tomorrow = pi.fails("export", tmp_path / "none.tar", "--since", "2999-01-01")
    assert tomorrow["exit"] == 65 and not (tmp_path / "none.tar").exists()


def test_what_is_printed_for_people(pi: Pi, model: Path, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "photos", 2)
    with serving(model, "--quota-period", "366d") as served:
        lines = [
            pi.run("init", "--url", served.url, "--daily-quota", 9, *YEAR),
            pi.run("add", folder),
            pi.run("collect"),
            pi.run("query", folder / "000.jpg"),
        ]
    lines += [pi.run("budget"), pi.run("status"), pi.run("export", tmp_path / "o.tar")]
    said = ["9 queries per 366d", "2 added", "2 answers settled for 2 queries", "(from the cache)"]
    said += ["7 of 9 queries left", "last run", "2 images with 2 answers"]
    for ended, words in zip(lines, said, strict=True):
        assert ended.code == 0 and words in ended.stdout
        assert not ended.stderr, "no progress bars and no warnings where nobody looks"


def test_repeats_ask_again_until_there_are_enough(pi: Pi, model: Path, tmp_path: Path) -> None:
    store = tmp_path / "quota.db"
    with serving(model, "--quota-period", "366d", "--quota-store", store) as served:
        pi.init(served.url, 20, *YEAR)
        pi.done("add", pictures(tmp_path / "photos", 2))
        pi.done("collect")
        third = pi.done("collect", "--repeats", 3, "--limit", 3)
        assert (third["sent"], third["queue"]) == (3, 1)
        assert pi.done("collect", "--repeats", 3)["sent"] == 1
        assert counts(store) == [(6, 0)]
    assert pi.done("export", tmp_path / "o.tar")["answers"] == 6
    assert {len(i.vectors) for i in read_transfer_set(tmp_path / "o.tar")} == {3}


def test_the_ledger_stops_at_the_quota_and_the_server_never_has_to(pi: Pi, model: Path, tmp_path: Path) -> None:
    folder, store = pictures(tmp_path / "photos", 5), tmp_path / "quota.db"
    with serving(model, "--quota", 3, "--quota-period", "366d", "--quota-store", store) as served:
        pi.init(served.url, 3, *YEAR)
        pi.done("add", folder)
        spent = pi.run("collect", "--json")
        assert spent.code == 75 and spent.error["kind"] == "BudgetSpent"
        assert (spent.json["sent"], spent.json["settled"], spent.json["remaining"], spent.json["queue"]) == (3, 3, 0, 2)
        assert pi.run("collect", "--json").json["sent"] == 0
        assert pi.fails("query", folder / "004.jpg")["exit"] == 75
        assert pi.done("query", folder / "000.jpg")["cached"], "cached answers are free, also without a budget"
        assert pi.done("budget")["remaining"] == 0
        assert counts(store) == [(3, 0)]


def test_what_the_server_says_is_left_lowers_a_quota_set_too_high(pi: Pi, model: Path, tmp_path: Path) -> None:
    folder, store = pictures(tmp_path / "photos", 5), tmp_path / "quota.db"
    with serving(model, "--quota", 4, "--quota-period", "366d", "--quota-store", store) as served:
        served.ask(query_jpeg(77))  # somebody else with our key
        pi.init(served.url, 700, *YEAR)
        pi.done("add", folder)
        ended = pi.run("collect", "--json")
        assert (ended.code, ended.json["settled"]) == (75, 3)
        served.ask(query_jpeg(78))
        assert counts(store) == [(4, 1)]
        assert pi.run("collect", "--json").json["sent"] == 0
        assert counts(store) == [(4, 1)], "whoever is locked out does not knock"


def test_a_new_window_brings_new_budget_and_none_is_overspent(pi: Pi, model: Path, tmp_path: Path) -> None:
    store = tmp_path / "quota.db"
    with serving(model, "--quota", 4, "--quota-period", "8s", "--quota-store", store) as served:
        pi.init(served.url, 4, "--period", "8s")
        pi.done("add", pictures(tmp_path / "photos", 6))
        days = set()
        while (ended := pi.run("collect", "--json")).code == 75:
            days.add(ended.json["day"])
            resets_at = datetime.fromisoformat(pi.done("budget")["resets_at"]).timestamp()
            time.sleep(max(0.0, resets_at - time.time()))
        assert ended.code == 0 and ended.json["queue"] == 0
    assert days, "six pictures do not fit into one window of four"
    windows = counts(store)
    assert sum(counted for counted, _ in windows) == 6
    assert all(counted <= 4 and refused == 0 for counted, refused in windows)


def test_a_second_home_with_the_same_quota_file_is_no_secret_door(pi: Pi, model: Path, tmp_path: Path) -> None:
    """A home that was lost does not start with a full budget: the oracle's own count is asked for first."""
    store = tmp_path / "quota.db"
    with serving(model, "--quota", 3, "--quota-period", "366d", "--quota-store", store) as served:
        for name in ("first", "second"):
            agent = Pi(tmp_path / name)
            agent.init(served.url, 3, *YEAR)
            agent.done("add", pictures(tmp_path / "photos", 3))
            agent.run("collect", "--json")
    assert counts(store) == [(3, 0)]


def test_a_damaged_picture_is_reported_and_can_be_added_again(pi: Pi, model: Path, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "photos", 2)
    with serving(model, "--quota-period", "366d") as served:
        pi.init(served.url, 9, *YEAR)
        pi.done("add", folder)
        worn = sorted((pi.home / "images").rglob("*.jpg"))[0]
        worn.write_bytes(worn.read_bytes()[:-1])
        ended = pi.run("collect", "--json")
        assert (ended.code, ended.json["settled"], ended.json["failed"]) == (0, 1, 1)
        assert "add" in ended.stderr
        assert pi.done("add", folder)["added"] == 1
        assert pi.done("collect")["settled"] == 1
        assert pi.done("collect")["cached"] == 2
