"""What a night may wish for: repeats until it is sure, no repeats of what repeats itself, no near-duplicates, a look
ahead, a reserve."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pi_agent.prepare import encode_query
from tests.support_agent import Pi, pictures
from tests.support_hostile import Behaviour, answer, hostile, keep_saying, reply

YEAR = ("--period", "366d")


def noisy(sd: float, seed: int = 0) -> Behaviour:
    """Scores around 0.3 that differ with every answer."""
    rng = np.random.default_rng(seed)

    def behave(connection: socket.socket, number: int) -> None:
        share = float(np.clip(rng.normal(0.3, sd), 0, 1))
        connection.sendall(answer(share, 1 - share))

    return behave


@pytest.fixture
def pi(tmp_path: Path) -> Pi:
    agent = Pi(tmp_path / "home")
    agent.init("http://127.0.0.1:1", 200, *YEAR)
    agent.done("add", pictures(tmp_path / "photos", 6))
    return agent


def answers_per_image(pi: Pi) -> list[int]:
    return sorted(n for (n,) in pi.rows("SELECT count(*) FROM answer GROUP BY image"))


def test_a_noisy_oracle_is_asked_as_often_as_wished_and_the_export_tells_the_spread(pi: Pi, tmp_path: Path) -> None:
    with hostile(noisy(0.05)) as server:
        url = {"PI_AGENT_ORACLE_URL": server.url}
        first = pi.done("collect", "--repeats", 4, **url)
        assert (first["sent"], first["settled"], first["queue"]) == (24, 24, 0)
        assert first["oracle_repeats_itself"] is False
        assert answers_per_image(pi) == [4] * 6
        assert pi.done("collect", "--repeats", 4, **url)["sent"] == 0
        assert pi.done("collect", "--repeats", 5, **url)["sent"] == 6
        exported = pi.done("export", tmp_path / "set.tar", **url)
    assert (exported["images"], exported["answers"]) == (6, 30)


def test_an_image_is_asked_until_its_standard_error_is_small_and_no_longer(pi: Pi) -> None:
    with hostile(noisy(0.05)) as server:
        url = {"PI_AGENT_ORACLE_URL": server.url}
        done = pi.done("collect", "--until-se", 0.02, **url)
        assert done["queue"] == 0 and not done["oracle_repeats_itself"]
        assert pi.done("collect", "--until-se", 0.02, **url)["sent"] == 0
    rows = pi.rows("SELECT image, vector FROM answer ORDER BY attempt")
    for image in {image for image, _ in rows}:
        scores = np.stack([np.frombuffer(v, "<f4") for i, v in rows if i == image]).astype(float)
        errors = [scores[:n].std(axis=0, ddof=1).max() / np.sqrt(n) for n in range(3, len(scores) + 1)]
        assert errors[-1] < 0.02 and all(error >= 0.02 for error in errors[:-1])


def test_an_oracle_that_repeats_itself_is_not_asked_again_and_again(pi: Pi, tmp_path: Path) -> None:
    with hostile(keep_saying(answer(0.25, 0.75))) as server:
        pi.done("collect", "--limit", 3, PI_AGENT_ORACLE_URL=server.url)
        pi.done("add", pictures(tmp_path / "more", 24, first=100))
        done = pi.done("collect", "--repeats", 50, "--in-flight", 8, PI_AGENT_ORACLE_URL=server.url)
        assert done["oracle_repeats_itself"] is True and done["queue"] == 0
        assert done["sent"] == server.asked - 3 <= 27 + 8, "each once, and a few more to find out"
        assert min(answers_per_image(pi)) == 1
        again = pi.done("collect", "--repeats", 50, PI_AGENT_ORACLE_URL=server.url)
        assert (again["sent"], again["oracle_repeats_itself"]) == (0, True)


def test_labels_alone_are_not_taken_for_a_quiet_oracle_too_early(pi: Pi) -> None:
    config = pi.home / "config.toml"
    config.write_text(config.read_text() + '\n[http]\nresult = "label"\nlabel = "label"\nclass_names = ["a", "b"]\n')
    with hostile(keep_saying(reply(200, b'{"label": "b"}'))) as server:
        done = pi.done("collect", "--repeats", 4, PI_AGENT_ORACLE_URL=server.url)
    assert (done["sent"], done["oracle_repeats_itself"]) == (24, None)


def variants(photo: np.ndarray) -> list[Callable[[], bytes]]:
    brighter = np.clip(photo.astype(np.int16) + 6, 0, 255).astype(np.uint8)
    shrunk = cv2.resize(cv2.resize(photo, (280, 280), interpolation=cv2.INTER_AREA), (300, 300))
    return [lambda: encode_query(brighter), lambda: encode_query(photo, quality=70), lambda: encode_query(shrunk)]


def test_near_duplicates_are_skipped_where_wished_and_stay_in_the_queue(tmp_path: Path) -> None:
    pi, folder = Pi(tmp_path / "home"), tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(5)
    for number in range(3):
        photo = cv2.resize(rng.integers(0, 256, (6, 6, 3), np.uint8), (300, 300), interpolation=cv2.INTER_CUBIC)
        for n, make in enumerate([lambda p=photo: encode_query(p), *variants(photo)]):
            (folder / f"{number}-{n}.jpg").write_bytes(make())
    pi.init("http://127.0.0.1:1", 200, *YEAR)
    assert pi.done("add", folder)["added"] == 12
    with hostile(keep_saying(answer(0.25, 0.75))) as server:
        url = {"PI_AGENT_ORACLE_URL": server.url}
        look = pi.done("collect", "--dry-run", "--skip-near-duplicates", **url)
        assert (look["queries"], look["near_duplicates"], server.requests) == (3, 9, [])
        done = pi.done("collect", "--skip-near-duplicates", **url)
        assert (done["sent"], done["near_duplicates"], done["queue"]) == (3, 9, 9)
        assert pi.done("collect", "--skip-near-duplicates", **url)["sent"] == 0, "those of earlier nights count too"
        assert pi.done("collect", "--limit", 1, **url)["sent"] == 1, "who does not skip them asks"
        assert pi.done("collect", "--skip-near-duplicates", 0, **url)["near_duplicates"] < 9


def test_a_dry_run_names_what_would_be_asked_in_order_and_asks_nobody(pi: Pi, tmp_path: Path) -> None:
    pi.done("add", pictures(tmp_path / "urgent", 2, first=50), "--priority", 9)
    with hostile(keep_saying(answer(0.25, 0.75))) as server:
        url = {"PI_AGENT_ORACLE_URL": server.url, "PI_AGENT_BUDGET_DAILY_QUOTA": "7"}
        look = pi.done("collect", "--dry-run", "--limit", 4, **url)
        assert [Path(i["source"]).parent.name for i in look["images"]] == ["urgent"] * 2 + ["photos"] * 2
        assert (look["queries"], look["remaining"], look["dry_run"]) == (4, 7, True)
        assert pi.done("collect", "--dry-run", **url)["queries"] == 7
        assert pi.done("collect", "--dry-run", "--repeats", 3, **url)["queries"] == 7
        assert server.requests == [] and pi.done("budget", **url)["spent"] == 0
        said = pi.run("collect", "--dry-run", **url).stdout
        assert "7 queries about 7 images" in said and "urgent" in said
        pi.done("collect", "--limit", 4, **url)
        asked = pi.rows("SELECT sha256 FROM image JOIN answer ON seq=image")
    assert {sha for (sha,) in asked} == {i["sha256"] for i in look["images"]}


def test_a_reserve_is_left_alone_by_collect_and_open_to_who_asks_for_it(pi: Pi, tmp_path: Path) -> None:
    with hostile(keep_saying(answer(0.25, 0.75))) as server:
        settings = {"PI_AGENT_ORACLE_URL": server.url, "PI_AGENT_BUDGET_DAILY_QUOTA": "5"}
        settings["PI_AGENT_BUDGET_RESERVE"] = "2"
        assert pi.done("collect", "--dry-run", **settings)["queries"] == 3
        error = pi.fails("collect", **settings)
        assert error["kind"] == "BudgetSpent" and "2 of them kept in reserve" in error["message"]
        assert server.asked == 3 and pi.done("budget", **settings)["remaining"] == 2
        more = tmp_path / "photos" / "005.jpg"
        assert pi.fails("query", more, **settings)["exit"] == 75
        assert pi.done("query", more, "--use-reserve", **settings)["cached"] is False
        assert server.asked == 4


def test_a_ledger_that_has_vanished_is_not_replaced_by_a_fresh_budget(pi: Pi) -> None:
    with hostile(keep_saying(answer(0.25, 0.75))) as server:
        url = {"PI_AGENT_ORACLE_URL": server.url}
        pi.done("collect", "--limit", 1, **url)
        for name in ("agent.db", "agent.db-wal", "agent.db-shm"):
            (pi.home / name).unlink(missing_ok=True)
        for command in ("collect", "budget", "status"):
            error = pi.fails(command, **url)
            assert (error["exit"], error["kind"]) == (74, "LostDatabase") and "restore a backup" in error["hint"]
        assert not (pi.home / "agent.db").exists() and server.asked == 1


def test_a_batch_is_asked_in_its_own_order(tmp_path: Path) -> None:
    import tarfile

    pi, folder = Pi(tmp_path / "home"), pictures(tmp_path / "photos", 5)
    order = ["003", "001", "004", "000", "002"]
    with tarfile.open(tmp_path / "batch.tar", "w") as tar:
        for name in order:
            tar.add(folder / f"{name}.jpg", arcname=f"{name}.jpg")
    pi.init("http://127.0.0.1:1", 9, *YEAR)
    pi.done("add", tmp_path / "batch.tar")
    look = json.loads(pi.run("collect", "--dry-run", "--json").stdout)
    assert [Path(i["source"].partition(":")[2]).stem for i in look["images"]] == order
