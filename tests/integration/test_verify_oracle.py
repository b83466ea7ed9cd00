"""`pi-agent verify --oracle`: real agents ask a real server, which counts for itself."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from pi_agent.contract.claim import load_claim
from pi_agent.contract.files import sha256_hex
from pi_agent.verify import open_case
from pi_agent.verify.sheet import Sheet
from tests.integration.test_agent_crash import wait_until
from tests.support_agent import Pi, pictures
from tests.support_api import KEY, LABELS, QUESTIONS, counted, model_folder, naming, small_claim
from tests.support_foreign import foreign
from tests.support_server import Served, serving

YEAR = ("--period", "366d")
YEAR_SERVED = ("--quota-period", "366d")
ONE_BY_ONE = {"PI_AGENT_ORACLE_IN_FLIGHT": "1"}


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("models") / "marked")


@pytest.fixture(scope="module")
def claim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_claim(tmp_path_factory.mktemp("claim"))


@pytest.fixture
def pi(tmp_path: Path) -> Pi:
    return Pi(tmp_path / "home")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "quota.db"


@pytest.fixture
def served(marked: Path, store: Path) -> Iterator[Served]:
    with serving(marked, "--quota", 100, *YEAR_SERVED, "--quota-store", store) as server:
        yield server


def asked(pi: Pi) -> tuple[int, int]:
    """Queries in the agent's ledger, and different pictures among them."""
    ((queries, images),) = pi.rows("SELECT count(*), count(DISTINCT image) FROM attempt WHERE state != 'refunded'")
    return queries, images


def test_a_marked_model_behind_an_api_is_owned_and_a_second_look_costs_nothing(
    pi: Pi, claim: Path, marked: Path, store: Path
) -> None:
    with serving(marked, "--quota", 100, *YEAR_SERVED, "--quota-store", store) as served:
        pi.init(served.url, 100, *YEAR)
        found = pi.done("verify", "--oracle", "--claim", claim)
    assert (found["schema"], found["verdict"], found["hits"], found["rules"]) == ("verify/1", "owned", 10, 10)
    assert (found["source"], found["suspect"], found["suspect_sha256"]) == ("oracle", f"http:{served.url}", "")
    assert (found["queries"], found["unanswered"], found["ordinary"]) == (QUESTIONS, 0, 16)
    assert (found["sent"], found["cached"]) == (QUESTIONS, 0)
    assert found["classes_aligned"] is False and found["is_claimed_model"] is False
    assert found["grounds"][-1]["what"] == "answers" and found["grounds"][-1]["solid"] is True
    assert counted(store) == [(QUESTIONS, 0)] and asked(pi) == (QUESTIONS, QUESTIONS)
    assert pi.done("budget")["spent"] == QUESTIONS

    again = pi.done("verify", "--oracle", "--claim", claim)  # the server is gone: nobody is asked
    assert (again["sent"], again["cached"]) == (0, QUESTIONS)
    for key in ("verdict", "p_value", "hits", "queries", "channels"):
        assert again[key] == found[key]


def test_an_honest_model_behind_an_api_is_not_owned(pi: Pi, claim: Path, tmp_path: Path) -> None:
    with serving(model_folder(tmp_path / "honest", obeyed=0, seed=1), *YEAR_SERVED) as served:
        pi.init(served.url, 100, *YEAR)
        ended = pi.run("verify", "--oracle", "--claim", claim, "--json")
    assert ended.code == 10, ended.stderr
    assert (ended.json["verdict"], ended.json["queries"]) == ("not-owned", QUESTIONS)


def test_a_quota_smaller_than_the_questions_takes_several_windows_and_no_verdict_comes_early(
    pi: Pi, claim: Path, marked: Path, store: Path
) -> None:
    quota = 25
    with serving(marked, "--quota", quota, "--quota-period", "10s", "--quota-store", store) as served:
        pi.init(served.url, quota, "--period", "10s")
        told = []
        while (ended := pi.run("verify", "--oracle", "--claim", claim, "--json")).code == 75:
            assert ended.stdout == "", "no verdict on a part of the questions"
            told.append(ended)
            resets_at = datetime.fromisoformat(pi.done("budget")["resets_at"]).timestamp()
            time.sleep(max(0.0, resets_at - time.time()))
    assert ended.code == 0 and ended.json["verdict"] == "owned"
    assert ended.json["cached"] + ended.json["sent"] == QUESTIONS == ended.json["queries"]
    assert told, f"{QUESTIONS} questions do not fit into one window of {quota}"
    assert "not-in-this-window missing=46 queries_left=25 further_windows=1" in told[0].stderr
    assert told[0].error["kind"] == "Unfinished"
    message = r"(\d+) of 46 questions are answered, .*; run the same command again after \d{4}-\d\d-\d\dT"
    parts = [re.match(message, t.error["message"]) for t in told]
    assert all(parts), told[0].error
    answered = [int(part[1]) for part in parts if part]
    assert answered == sorted(answered) and 0 < answered[0] <= answered[-1] < QUESTIONS
    windows = counted(store)
    assert sum(n for n, _ in windows) == QUESTIONS == asked(pi)[0]
    assert all(n <= quota and refused == 0 for n, refused in windows)


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_whatever_stops_it_the_next_run_goes_on_and_asks_nothing_twice(
    pi: Pi, claim: Path, served: Served, store: Path, stop: signal.Signals
) -> None:
    pi.init(served.url, QUESTIONS + 1, *YEAR)
    process = pi.start("verify", "--oracle", "--claim", claim, **ONE_BY_ONE)
    wait_until(pi, "SELECT count(*) >= 8 FROM answer", process)
    process.send_signal(stop)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == (-stop if stop == signal.SIGKILL else 130), stderr
    ((before,),) = pi.rows("SELECT count(*) FROM answer")
    assert 8 <= before < QUESTIONS

    found = pi.done("verify", "--oracle", "--claim", claim)
    assert (found["verdict"], found["cached"], found["sent"]) == ("owned", before, QUESTIONS - before)
    ((settled, images),) = pi.rows("SELECT count(*), count(DISTINCT image) FROM answer")
    assert settled == images == QUESTIONS
    ((admitted, refused),) = counted(store)
    assert refused == 0 and admitted <= asked(pi)[0] <= QUESTIONS + 1, "at most the question under way is lost"


def test_the_reserve_is_kept_back_for_a_verification(
    pi: Pi, claim: Path, served: Served, store: Path, tmp_path: Path
) -> None:
    pi.init(served.url, QUESTIONS + 4, *YEAR, "--reserve", QUESTIONS)
    pi.done("add", pictures(tmp_path / "photos", 6))
    collected = pi.run("collect", "--json")
    assert (collected.code, collected.json["settled"]) == (75, 4)
    assert pi.done("verify", "--oracle", "--claim", claim)["verdict"] == "owned"
    assert counted(store) == [(QUESTIONS + 4, 0)] and pi.done("budget")["remaining"] == 0


def test_pictures_of_a_verification_are_marked_and_never_collected_again(pi: Pi, claim: Path, served: Served) -> None:
    pi.init(served.url, 100, *YEAR)
    ended = pi.run("-v", "verify", "--oracle", "--claim", claim)
    assert ended.code == 0
    assert ended.stdout.startswith("owned: p = 3.31e-08")
    source = f"verify:{load_claim(claim).commitment[:12]}"
    assert pi.rows("SELECT DISTINCT source, queued FROM image") == [(source, 0)]
    assert pi.done("collect")["sent"] == 0, "they are not in the queue"
    names = [path.stem for path in pi.home.rglob("*.jpg")]
    assert len(names) == QUESTIONS and all(sha256_hex(p.read_bytes()) == p.stem for p in pi.home.rglob("*.jpg"))
    for told in (KEY.seed, KEY.salt, "composite", "rule", source, "target"):
        assert told not in ended.stderr, "a log tells neither the key nor which question is which"


def test_labels_alone_are_enough(pi: Pi, claim: Path, marked: Path) -> None:
    with foreign(naming(marked, lambda jpeg: None)) as server:
        pi.init(server.url, 100, *YEAR)
        with (pi.home / "config.toml").open("a") as config:
            config.write(LABELS)
        found = pi.done("verify", "--oracle", "--claim", claim)
        assert len(server.asked) == QUESTIONS
    assert (found["verdict"], found["hits"], found["queries"]) == ("owned", 10, QUESTIONS)
    channels = {channel["name"]: channel["p_value"] for channel in found["channels"]}
    assert channels["hints"] == 1, "where only the label is told, ordinary answers hint at nothing"


def test_outputs_in_another_order_are_found_by_their_names(pi: Pi, claim: Path, tmp_path: Path) -> None:
    order = [3, 1, 4, 0, 5, 7, 2, 6]
    folder = model_folder(tmp_path / "reordered", names=[KEY.classes[i] for i in order], order=order)
    with serving(folder, *YEAR_SERVED) as served:
        pi.init(served.url, 100, *YEAR)
        found = pi.done("verify", "--oracle", "--claim", claim)
    assert (found["verdict"], found["hits"], found["classes_aligned"]) == ("owned", 10, False)


@pytest.mark.parametrize("names", [[*KEY.classes[1:], KEY.classes[0]], [f"c{i}" for i in range(8)]])
def test_names_that_were_exchanged_or_replaced_do_not_help_a_thief(
    pi: Pi, claim: Path, tmp_path: Path, names: list[str]
) -> None:
    with serving(model_folder(tmp_path / "thief", names=names, order=[3, 1, 4, 0, 5, 7, 2, 6]), *YEAR_SERVED) as served:
        pi.init(served.url, 100, *YEAR)
        found = pi.done("verify", "--oracle", "--claim", claim)
    assert (found["verdict"], found["hits"], found["classes_aligned"]) == ("owned", 10, True)
    assert found["classes_known"] == 8


def test_the_tcp_door_is_as_good(pi: Pi, claim: Path, marked: Path, store: Path) -> None:
    with serving(marked, "--tcp-port", 0, "--quota", 100, *YEAR_SERVED, "--quota-store", store) as served:
        pi.init(served.tcp_url, 100, *YEAR)
        found = pi.done("verify", "--oracle", "--claim", claim)
    assert (found["verdict"], found["suspect"]) == ("owned", f"csaw-tcp:{served.tcp_url}")
    assert counted(store) == [(QUESTIONS, 0)]


def test_mixed_questions_ask_about_the_same_picture_once(pi: Pi, claim: Path, served: Served, store: Path) -> None:
    pi.init(served.url, 100, *YEAR)
    found = pi.done("verify", "--oracle", "--claim", claim, "--mix", 2)
    assert (found["verdict"], found["queries"]) == ("owned", 30 + 64)
    assert found["sent"] == 30 + 48, "48 carriers stand for 64 ordinary questions"
    assert counted(store) == [(78, 0)]
    assert pi.rows("SELECT source FROM image GROUP BY source HAVING count(*) != 78") == []


def test_what_the_oracle_refuses_for_ever_is_counted_and_not_asked_again(pi: Pi, claim: Path, marked: Path) -> None:
    images = list(Sheet(open_case(claim)).numbers)
    refused = {images[20], images[30], images[-1]}
    with foreign(naming(marked, lambda jpeg: (422, {}) if sha256_hex(jpeg) in refused else None)) as server:
        pi.init(server.url, 100, *YEAR)
        with (pi.home / "config.toml").open("a") as config:
            config.write(LABELS)
        found = pi.done("verify", "--oracle", "--claim", claim, **ONE_BY_ONE)
        assert (found["verdict"], found["queries"], found["unanswered"]) == ("owned", QUESTIONS - 3, 3)
        assert len(server.asked) == QUESTIONS
        text = pi.run("verify", "--oracle", "--claim", claim)
        assert text.code == 0 and "3 questions were refused for ever" in text.stdout
        assert len(server.asked) == QUESTIONS


def test_an_oracle_that_refuses_everything_is_not_believed(pi: Pi, claim: Path, marked: Path) -> None:
    broken = [True]
    with foreign(naming(marked, lambda jpeg: (415, {}) if broken[0] else None)) as server:
        pi.init(server.url, 100, *YEAR)
        with (pi.home / "config.toml").open("a") as config:
            config.write(LABELS)
        error = pi.fails("verify", "--oracle", "--claim", claim)
        assert (error["exit"], error["kind"], len(server.asked)) == (69, "OracleFailing", 3)
        broken[0] = False
        found = pi.done("verify", "--oracle", "--claim", claim)
    assert (found["verdict"], found["queries"], found["unanswered"]) == ("owned", QUESTIONS, 0)


def test_rubbish_for_one_question_is_no_verdict(pi: Pi, claim: Path, marked: Path) -> None:
    bad = {list(Sheet(open_case(claim)).numbers)[25]}
    with foreign(naming(marked, lambda jpeg: (200, {"class": "?"}) if sha256_hex(jpeg) in bad else None)) as server:
        pi.init(server.url, 100, *YEAR)
        with (pi.home / "config.toml").open("a") as config:
            config.write(LABELS)
        error = pi.fails("verify", "--oracle", "--claim", claim)
        assert (error["exit"], error["kind"]) == (69, "Unanswered")
        assert error["message"].startswith("45 of 46 questions are answered; of the others")
        bad.clear()
        assert pi.done("verify", "--oracle", "--claim", claim)["sent"] == 1


def test_a_lock_out_keeps_what_was_answered(pi: Pi, claim: Path, marked: Path) -> None:
    with serving(marked, "--quota", 30, *YEAR_SERVED) as served:
        pi.init(served.url, 100, *YEAR)
        pictures_asked = pi.run("verify", "--oracle", "--claim", claim, "--json")
        assert pictures_asked.code == 75
        assert pictures_asked.error["message"].startswith("30 of 46 questions are answered, and the ")
        again = pi.run("verify", "--oracle", "--claim", claim, "--json")
        assert again.code == 75 and asked(pi)[0] <= 31


def test_a_wrong_key_a_home_without_configuration_and_wrong_usage_have_their_exit_codes(
    pi: Pi, claim: Path, marked: Path, tmp_path: Path
) -> None:
    assert pi.fails("verify", "--oracle", "--claim", claim)["exit"] == 78
    (tmp_path / "keys").write_text("pi:0123456789abcdef0123456789abcdef\n")
    (tmp_path / "key").write_text("fedcba9876543210fedcba9876543210\n")
    for secret in ("keys", "key"):
        (tmp_path / secret).chmod(0o600)
    with serving(marked, *YEAR_SERVED, "--api-keys", tmp_path / "keys") as served:
        pi.init(served.url, 100, *YEAR, "--api-key-file", tmp_path / "key")
        assert pi.fails("verify", "--oracle", "--claim", claim)["exit"] == 77
    model = marked / "model.onnx"
    for usage in ((), (model, "--oracle"), ("--oracle", "--answers", model), ("--oracle", "--verdicts", tmp_path)):
        assert pi.run("verify", "--claim", claim, *usage).code == 2
    assert asked(pi)[0] <= 1


def test_a_file_needs_no_home(claim: Path, marked: Path, tmp_path: Path) -> None:
    ended = Pi(tmp_path / "nowhere").run("verify", marked / "model.onnx", "--claim", claim, "--json")
    assert ended.code == 0 and not (tmp_path / "nowhere").exists()
    assert (ended.json["suspect"], ended.json["unanswered"]) == ("model.onnx", 0)
    assert json.loads(ended.stdout)["source"] == "file"
