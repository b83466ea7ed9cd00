"""Everything that goes wrong for a user ends in its documented exit code with one line of what and one of why."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pi_agent.agent import Agent
from pi_agent.clock import Clock
from pi_agent.collect import collect
from pi_agent.config import load_config
from pi_agent.contract.transfer_set import read_transfer_set
from pi_agent.errors import ClockDoubt
from pi_agent.paths import Home
from tests.support import tiny_model_folder
from tests.support_agent import Pi, pictures
from tests.support_hostile import GOOD, USELESS, answer, hostile, keep_saying, reply
from tests.support_server import KEY, serving

NOWHERE = "http://127.0.0.1:9"
ROOT = os.geteuid() == 0


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with five pictures in the queue."""
    folder = tmp_path_factory.mktemp("ready")
    pi = Pi(folder / "home")
    pi.init(NOWHERE, 50, "--period", "366d")
    pi.done("add", pictures(folder / "photos", 5))
    return pi.home


@pytest.fixture
def pi(ready: Path, tmp_path: Path) -> Pi:
    """A copy of it."""
    return Pi(Path(shutil.copytree(ready, tmp_path / "home")))


def explains(pi: Pi, *arguments: object, **options: object) -> tuple[int, str]:
    """Exit code and text of a failure: one line `error:`, one line `hint:`, nothing of our own code."""
    ended = pi.run(*arguments, **options)
    lines = ended.stderr.splitlines()
    assert lines[-2].startswith("error: ") and lines[-1].startswith("  hint: "), ended.stderr
    assert ".py" not in ended.stderr
    return ended.code, "\n".join(lines[-2:])


# -- the oracle --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["garbage", "closed early", "server error", "half a JSON", "redirect", "endless body", "dripping headers"]
)
def test_a_sick_oracle_is_69_after_three_images_and_nothing_is_believed(pi: Pi, name: str) -> None:
    environment = {"PI_AGENT_ORACLE_ATTEMPTS": "1", "PI_AGENT_ORACLE_TIMEOUT": "1.0"}
    with hostile(USELESS[name]) as server:
        ended = pi.run("collect", "--json", PI_AGENT_ORACLE_URL=server.url, **environment)
        assert (ended.code, ended.error["kind"]) == (69, "OracleFailing")
        assert server.asked == 3
    assert ended.error["hint"]
    assert (ended.json["sent"], ended.json["settled"], ended.json["failed"]) == (3, 0, 3)
    assert (ended.json["remaining"], ended.json["queue"]) == (47, 5), "spent, and asked again another day"
    assert pi.rows("SELECT count(*) FROM answer") == [(0,)]
    assert pi.rows("SELECT classes FROM oracle WHERE classes IS NOT NULL") == []


def test_retries_are_spent_queries(pi: Pi) -> None:
    with hostile(USELESS["server error"]) as server:
        ended = pi.run("collect", "--json", "--limit", 4, PI_AGENT_ORACLE_URL=server.url)
        assert (ended.code, ended.json["sent"], server.asked) == (0, 4, 4), "three for one image, one for the next"


def test_another_number_of_classes_is_refused_and_the_first_answer_kept(pi: Pi) -> None:
    def changes_its_mind(connection: socket.socket, number: int) -> None:
        connection.sendall(answer(0.25, 0.75) if number == 1 else answer(0.2, 0.3, 0.5))

    with hostile(changes_its_mind) as server:
        code, text = explains(pi, "collect", PI_AGENT_ORACLE_URL=server.url)
        assert server.asked == 4
    assert code == 69 and "3 classes" in text
    assert pi.rows("SELECT length(vector) FROM answer") == [(8,)]


def test_an_oracle_that_refuses_every_picture_does_not_get_the_whole_budget(pi: Pi) -> None:
    with hostile(keep_saying(reply(415, b'{"error": "PNG only"}'))) as server:
        ended = pi.run("collect", "--json", PI_AGENT_ORACLE_URL=server.url)
        assert (ended.code, server.asked) == (69, 3)
    assert "PNG only" in ended.error["message"]


def test_a_lock_out_is_75_and_is_kept(pi: Pi) -> None:
    with hostile(keep_saying(reply(403, b'{"until": "2999-01-01T00:00:00Z"}'))) as server:
        for _ in range(2):
            error = pi.fails("collect", PI_AGENT_ORACLE_URL=server.url)
            assert (error["exit"], error["kind"]) == (75, "LockedOut")
        assert server.asked == 1
        budget = pi.done("budget", PI_AGENT_ORACLE_URL=server.url)
    assert budget["locked_until"] and budget["remaining"] == 0


def test_a_server_that_is_down_is_69_and_costs_nothing(pi: Pi) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    environment = {"PI_AGENT_ORACLE_URL": url, "PI_AGENT_ORACLE_ATTEMPTS": "2"}
    code, text = explains(pi, "collect", **environment)
    assert code == 69 and "cannot be reached" in text
    assert pi.fails("query", pictures(pi.home / "p", 1) / "000.jpg", **environment)["exit"] == 69
    assert pi.done("budget", **environment)["spent"] == 0


def test_a_wrong_key_is_77_and_costs_nothing(pi: Pi, tmp_path: Path) -> None:
    for name, text in (("keys", f"pi:{KEY}\n"), ("key", "wrong\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    with serving(tiny_model_folder(tmp_path / "tiny"), "--api-keys", tmp_path / "keys") as served:
        environment = {"PI_AGENT_ORACLE_URL": served.url, "PI_AGENT_ORACLE_API_KEY_FILE": str(tmp_path / "key")}
        code, text = explains(pi, "collect", **environment)
        assert code == 77 and "api_key_file" in text
        assert pi.fails("collect", **environment)["kind"] == "NotAuthorised"
        assert pi.done("budget", **environment)["spent"] == 0
        assert served.quota(KEY).json()["remaining"] == 700
    assert KEY not in text and "wrong" not in text


def test_a_clock_nobody_vouches_for_is_69_and_costs_nothing(pi: Pi) -> None:
    def unreachable_time(connection: socket.socket, number: int) -> None:
        raise AssertionError("never asked")

    with hostile(unreachable_time) as server:
        server.date = "Thu, 01 Jan 1970 00:00:00 GMT"
        home = Home(pi.home)
        config = load_config(home, {"PI_AGENT_ORACLE_URL": server.url})
        # In this process: a machine whose kernel is synchronized would rightly trust its own clock.
        with Agent(home, config, Clock(synchronized=lambda: False)) as agent:
            stopped_by = collect(agent).stopped_by
        assert isinstance(stopped_by, ClockDoubt) and stopped_by.exit_code == 69 and server.asked == 0


# -- pictures ----------------------------------------------------------------------------------------------------------


def test_pictures_that_are_none_are_65(pi: Pi, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("this is no picture")
    (tmp_path / "empty").mkdir()
    (tmp_path / "junk.tar").write_bytes(b"junk" * 1000)
    os.mkfifo(tmp_path / "fifo.tar")
    (tmp_path / "link.jpg").symlink_to(pi.home / "config.toml")
    for name in ("text.jpg", "empty", "junk.tar", "fifo.tar", "link.jpg", "absent.jpg"):
        code, text = explains(pi, "add", tmp_path / name)
        assert code == 65 and name in text
    everything = pi.fails("add", tmp_path / "text.jpg", tmp_path / "link.jpg")
    assert everything["exit"] == 65 and "none of 2" in everything["message"]
    assert pi.fails("query", tmp_path / "text.jpg")["exit"] == 65
    assert pi.done("status")["queue"] == 5


def test_an_export_of_nothing_is_65(pi: Pi, tmp_path: Path) -> None:
    code, text = explains(pi, "export", tmp_path / "out.tar")
    assert code == 65 and "collect first" in text
    assert list(tmp_path.glob("*out.tar*")) == []


# -- configuration -----------------------------------------------------------------------------------------------------


def test_no_configuration_is_78_and_says_what_to_type(tmp_path: Path) -> None:
    pi = Pi(tmp_path / "new")
    for verb in ("collect", "budget", "status"):
        code, text = explains(pi, verb)
        assert code == 78 and "pi-agent init --url" in text
    assert not pi.home.exists()


def test_a_wrong_configuration_is_78_and_names_the_key(pi: Pi) -> None:
    config = pi.home / "config.toml"
    good = config.read_text()
    for wrong, words in (
        (good.replace("daily_quota", "daily_qouta"), "did you mean 'daily_quota'?"),
        (good.replace("= 50", '= "many"'), "budget.daily_quota"),
        (good.replace("http:", "gopher:"), "http://host:port"),
        ("oracle = 5", "oracle"),
        ("[oracle\n", "line 1"),
    ):
        config.write_text(wrong)
        code, text = explains(pi, "budget")
        assert code == 78 and words in text
    code, text = explains(pi, "budget", PI_AGENT_ORACLE_URL=NOWHERE)
    assert code == 78
    pi.init(NOWHERE, 7)
    assert pi.done("budget")["quota"] == 7, "init repairs what it can"


def test_the_environment_stands_above_the_file_and_is_checked_like_it(pi: Pi) -> None:
    assert pi.done("budget", PI_AGENT_BUDGET_DAILY_QUOTA="3")["quota"] == 3
    assert "daily_quota" in explains(pi, "budget", PI_AGENT_BUDGET_DAILY_QUOTA="lots")[1]
    code, text = explains(pi, "budget", PI_AGENT_BUDGET_QUOTA="3")
    assert code == 78 and "did you mean" in text


def test_a_key_file_that_others_may_read_is_78(pi: Pi, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("hush\n")
    key.chmod(0o644)
    for verb in (("init", "--url", NOWHERE, "--api-key-file", key), ("collect",)):
        code, text = explains(pi, *verb, PI_AGENT_ORACLE_API_KEY_FILE=str(key))
        assert code == 78 and f"chmod 600 {key}" in text and "hush" not in text
    assert explains(pi, "collect", PI_AGENT_ORACLE_API_KEY_FILE=str(tmp_path / "absent"))[0] == 78


# -- the disk ----------------------------------------------------------------------------------------------------------


def largest_file(size: int) -> None:
    """In the child: no file may grow above `size` bytes; a write beyond it fails like one on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of two megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", place)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def good_oracle(connection: socket.socket, number: int) -> None:
    """Every answer is right."""
    connection.sendall(reply(200, GOOD))


def test_a_disk_that_fills_up_is_74_and_the_night_goes_on_when_there_is_room(small_disk: Path, tmp_path: Path) -> None:
    pi, folder = Pi(small_disk / "home"), pictures(tmp_path / "photos", 40)
    filler = small_disk / "filler"
    with hostile(good_oracle) as server:
        pi.init(server.url, 50, "--period", "366d")

        error = pi.fails("add", folder)  # forty do not fit
        assert (error["exit"], error["kind"]) == (74, "StorageError") and "disk space" in error["hint"]
        assert not [p for p in pi.home.rglob("*") if p.name.startswith(".")], "nothing half-written"
        shutil.rmtree(pi.home / "images")
        pi.done("add", *sorted(folder.iterdir())[:5])

        def fill() -> None:
            with filler.open("wb", buffering=0) as stream, pytest.raises(OSError, match="space"):
                while True:
                    stream.write(bytes(4096))

        fill()
        ended = pi.run("collect", "--json")
        assert ended.code == 74 and ended.error["exit"] == 74
        assert server.asked <= 1, "what cannot be written down is not asked"
        filler.unlink()
        done = pi.done("collect")
        assert done["queue"] == 0 and pi.done("budget")["spent"] <= 6

        fill()
        out = small_disk / "night.tar"
        assert pi.fails("export", out)["exit"] == 74
        assert not list(small_disk.glob("*night.tar*"))
        filler.unlink()
        pi.done("export", out)
        assert len(list(read_transfer_set(out))) == 5


def test_files_that_may_not_grow_are_74_in_every_command(pi: Pi, tmp_path: Path) -> None:
    more = pictures(tmp_path / "more", 3, first=50)
    out = tmp_path / "out.tar"
    with hostile(good_oracle) as server:
        url = {"PI_AGENT_ORACLE_URL": server.url}
        assert explains(pi, "add", more, limits=lambda: largest_file(10_000))[0] == 74
        assert pi.done("status")["queue"] == 5
        ended = pi.run("collect", limits=lambda: largest_file(40_000), **url)
        assert ended.code == 74 and "hint: free some disk space" in ended.stderr
        settled = pi.rows("SELECT count(*) FROM answer")[0][0]
        assert settled <= server.asked <= settled + 1, "at most the one under way is lost"
        assert pi.done("collect", **url)["queue"] == 0
        assert explains(pi, "export", out, limits=lambda: largest_file(30_000), **url)[0] == 74
        assert not out.exists() and not list(tmp_path.glob(".out.tar*"))
        assert pi.done("export", out, **url)["images"] == 5


def test_a_full_standard_output_is_74(pi: Pi) -> None:
    with open("/dev/full", "w") as full:
        process = pi.start("budget", "--json", stdout=full)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 74 and '"exit": 74' in stderr


@pytest.mark.parametrize("damage", ["head", "middle", "stranger", "newer"])
def test_a_damaged_database_is_74_with_advice_and_is_left_alone(pi: Pi, damage: str) -> None:
    path = pi.home / "agent.db"
    if damage == "stranger":
        path.unlink()
        pi.rows("CREATE TABLE mine (x)")
    elif damage == "newer":
        pi.rows("PRAGMA user_version=99")
    else:
        data = bytearray(path.read_bytes())
        start = 0 if damage == "head" else 4096
        data[start : start + 20 * 4096] = os.urandom(20 * 4096)
        path.write_bytes(data)
    before = path.read_bytes()
    for verb in ("collect", "budget"):
        code, text = explains(pi, verb)
        assert code == 74 and "agent.db" in text
    assert pi.fails("status")["kind"] == "DamagedDatabase"
    assert path.read_bytes() == before


def test_a_home_that_cannot_be_is_73(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("in the way")
    for home in (occupied, occupied / "below", Path("/proc/magpie")):
        assert explains(Pi(home), "init", "--url", NOWHERE)[0] == 73
    assert explains(Pi(occupied), "budget")[0] == 73
    assert occupied.read_text() == "in the way"


def test_an_output_that_cannot_be_is_73(pi: Pi, tmp_path: Path) -> None:
    with hostile(good_oracle) as server:
        pi.done("query", pictures(tmp_path / "p", 1) / "000.jpg", PI_AGENT_ORACLE_URL=server.url)
        for out in (tmp_path / "absent" / "o.tar", Path("/proc/o.tar")):
            assert explains(pi, "export", out, PI_AGENT_ORACLE_URL=server.url)[0] == 73


def mount(*arguments: object) -> None:
    """Mount something, or skip the test where that is not allowed."""
    if not ROOT or subprocess.run(["mount", *map(str, arguments)], capture_output=True).returncode != 0:
        pytest.skip("mounting is not allowed here")


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """For root only a mount is read-only, for others permissions are enough."""
    if ROOT:
        mount("--bind", folder, folder)
        try:
            mount("-o", "remount,ro,bind", folder)
            yield
        finally:
            subprocess.run(["umount", str(folder)], check=True)
    else:
        (folder / "agent.db").chmod(0o400)
        folder.chmod(0o500)
        yield
        folder.chmod(0o700)


def test_a_read_only_home_is_73(pi: Pi) -> None:
    with read_only(pi.home):
        for verb in (("budget",), ("collect",), ("init", "--url", NOWHERE)):
            assert explains(pi, *verb)[0] == 73
