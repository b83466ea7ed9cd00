"""`train-host watermark evaluate` from the key to the page, interrupted in every way, and with everything wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pi_agent.contract.images import SIDE
from pi_agent.contract.output import run
from pi_agent.prepare import encode_query
from training_host.cli import cli
from training_host.removal.answer_change import AnswerChange
from training_host.removal.base import EVASION, Removal, Stolen, Thief
from training_host.removal.fine_tune import FineTune
from training_host.removal.prune import Prune
from training_host.removal.retrain import Retrain
from training_host.removal.suites import SUITES

NAMES = ("boots", "cans", "glass", "metal")
TINY: dict[str, Removal] = {
    "extraction, scores, all": Retrain(),
    "FTAL, all data": FineTune(epochs=1),
    "pruning 50 %": Prune(0.5),
    "answers with six decimals": AnswerChange("round", 6),  # two decimals of a hasty network are a tie now and then
}


@dataclass(frozen=True)
class Slow:
    """Takes its time, and notes when it begins and ends."""

    diary: str
    number: int
    kind: str = EVASION

    def steal(self, thief: Thief) -> Stolen:
        for word in ("begin", "end"):
            with Path(self.diary).open("a") as stream:
                stream.write(f"{word}-{self.number}\n")
            time.sleep(0.5)
        return Stolen.of(thief.network, thief.device)


@dataclass(frozen=True)
class Missing:
    """Has no tool."""

    kind: str = EVASION

    def steal(self, thief: Thief) -> Stolen:
        raise FileNotFoundError("no such tool")


@dataclass
class Done:
    """What the command said."""

    code: int
    out: str
    error: dict[str, Any]

    @property
    def result(self) -> dict[str, Any]:
        return json.loads(self.out)


Host = Callable[..., Done]


@pytest.fixture
def host(capsys: pytest.CaptureFixture[str]) -> Host:
    def call(*arguments: object) -> Done:
        capsys.readouterr()
        code = run(cli, "train-host", [*map(str, arguments)])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        errors = [line for line in said.err.splitlines() if line.startswith('{"error"')]
        return Done(code, said.out, json.loads(errors[-1])["error"] if errors else {})

    return call


def pictures(folder: Path, names: tuple[str, ...]) -> Path:
    """Each class one colour under noise: twenty to train on, three aside."""
    rng = np.random.default_rng(1)
    for name in names:
        colour = rng.integers(40, 216, 3)
        for part, count in (("train", 20), ("test", 3)):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = (colour + rng.integers(-30, 31, (SIDE, SIDE, 3))).clip(0, 255).astype(np.uint8)
                (folder / part / name / f"{number}.jpg").write_bytes(encode_query(pixels))
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data`, `owner.key`, `other.key`, a model that is marked with the first, and one without a mark."""
    folder = tmp_path_factory.mktemp("evaluate")
    data = pictures(folder / "data", NAMES)
    keygen = ["watermark", "keygen", "--classes", *NAMES, "--rules", 5, "--alpha", 0.05]
    quick = ["--arch", "recycleme-narrow", "--epochs", 2]
    lines = [
        [*keygen, "--out", folder / "owner.key"],
        [*keygen, "--out", folder / "other.key"],
        ["watermark", "embed", data, "--key", folder / "owner.key", "--out", folder / "victim", *quick],
        ["train", data, "--out", folder / "plain", *quick],
    ]
    for line in lines:
        assert run(cli, "train-host", [*map(str, line)]) == 0
    return folder


def line_of(place: Path, out: Path, **changes: object) -> list[object]:
    given = {"model": place / "victim", "key": place / "owner.key", "data": place / "data", "suite": "tiny", "jobs": 1}
    given |= changes
    options = [part for name, value in given.items() if name != "model" for part in (f"--{name}", value)]
    return ["watermark", "evaluate", given["model"], *options, "--out", out]


def test_a_suite_ends_in_a_table_json_and_a_page_and_is_not_run_twice(
    place: Path, tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(SUITES, "tiny", TINY)
    out = tmp_path / "out"
    done = host(*line_of(place, out), "--json")
    assert done.code == 0, done.error
    result = done.result
    assert result["schema"] == "watermark-evaluate/1" and result["within_points"] == 5 and result["alpha"] == 0.05
    assert {a["name"] for a in result["attacks"]} == set(TINY) and sum(result["counts"].values()) == len(TINY)
    for attack in result["attacks"]:
        assert attack["verdict"] in ("survived", "broken", "spoiled the model")
        assert 0 < attack["floor"] <= attack["p_value"] <= 1 and 0 <= attack["wsr"] <= 1
        assert attack["accuracy_change"] == pytest.approx(
            100 * (attack["accuracy"] - result["marked"]["accuracy"]), abs=1e-5
        )
    rounded = next(a for a in result["attacks"] if a["name"] == "answers with six decimals")
    assert rounded["accuracy"] == result["marked"]["accuracy"]
    stored = json.loads((out / "results.json").read_text())
    assert {**stored, "report": str(out / "report.html")} == result
    assert len(list((out / "attacks").glob("*.json"))) == len(TINY) + 2
    page = (out / "report.html").read_text()
    assert all(name in page for name in TINY) and "<svg" in page

    files = {path: path.stat().st_mtime_ns for path in (out / "attacks").iterdir()}
    again = host(*line_of(place, out))
    assert again.code == 0 and files == {path: path.stat().st_mtime_ns for path in (out / "attacks").iterdir()}
    text = again.out.splitlines()
    assert text[0].startswith("worst case: ") and text[-1] == f"report: {out / 'report.html'}"
    assert "5 points of accuracy" in again.out and "the marked model" in again.out
    secrets = json.loads((place / "owner.key").read_text())
    for secret in (secrets["seed"], secrets["salt"]):
        assert not any(secret in path.read_text() for path in (*files, out / "results.json", out / "report.html"))


def test_an_attack_that_cannot_be_carried_out_is_in_the_table_and_the_exit_code_is_1(
    place: Path, tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(SUITES, "tiny", {"no tool": Missing(), "pruning": Prune(0.1)})
    done = host(*line_of(place, tmp_path / "out"), "--json")
    assert done.code == 1 == done.error["exit"] and "no tool" in done.error["message"] and done.error["hint"]
    assert done.result["counts"]["failed"] == 1
    assert "FileNotFoundError: no such tool" in (tmp_path / "out" / "report.html").read_text()
    text = host(*line_of(place, tmp_path / "out"))
    assert text.code == 1 and "FileNotFoundError: no such tool" in text.out


def test_seeds_and_epochs_are_those_that_were_asked_for(
    place: Path, tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(SUITES, "tiny", {"noise": AnswerChange("round", 3)})
    plain = host(*line_of(place, tmp_path / "out"), "--json").result
    more = host(*line_of(place, tmp_path / "out", seeds=2, epochs=1), "--json").result
    assert (plain["epochs"], plain["seeds"], more["epochs"], more["seeds"]) == (2, 1, 1, 2)
    assert [len(r["attacks"][0]["runs"]) for r in (plain, more)] == [1, 2]


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"key": "other.key"}, 65, "another key"),
        ({"key": "nowhere.key"}, 78, ""),
        ({"model": "plain"}, 65, "carriers.tar"),
        ({"model": "nowhere"}, 65, ""),
        ({"data": "nowhere"}, 65, ""),
        ({"data": "foreign"}, 65, "classes"),
        ({"data": "narrow"}, 65, "held-out"),
        ({"suite": "everything"}, 2, "quick, full"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_wrong_input_is_refused_before_anything_is_attacked(
    place: Path, tmp_path: Path, host: Host, changes: dict[str, str], code: int, said: str
):
    if not (place / "foreign").exists():
        pictures(place / "foreign", ("ants", "bees", "cats", "dogs"))
        shutil.copytree(place / "data", place / "narrow")
        for name in NAMES[:3]:
            shutil.rmtree(place / "narrow" / "test" / name)
    paths: dict[str, object] = {name: place / value if name != "suite" else value for name, value in changes.items()}
    line = line_of(place, tmp_path / "out", **{"suite": "quick", **paths})
    done = host(*line, "--json")
    assert (done.code, done.error["exit"]) == (code, code)
    assert said in done.error["message"] and "\n" not in done.error["message"]
    assert not (tmp_path / "out").exists()


def test_a_model_whose_manifest_names_no_mark_is_refused(place: Path, tmp_path: Path, host: Host):
    model = tmp_path / "model"
    shutil.copytree(place / "victim", model)
    manifest = json.loads((model / "manifest.json").read_text())
    del manifest["provenance"]["watermark"]
    (model / "manifest.json").write_text(json.dumps(manifest))
    done = host(*line_of(place, tmp_path / "out", model=model, suite="quick"), "--json")
    assert done.code == 65 and "not marked" in done.error["message"]


def slow_suite(diary: str) -> dict[str, Removal]:
    return {f"slow {i}": Slow(diary, i) for i in range(6)}


def start(place: Path, out: Path, diary: Path) -> subprocess.Popen[str]:
    """A run of six slow attacks in two processes, in a process group of its own."""
    program = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs inherit it ignored
        "from training_host.cli import main\n"
        "from training_host.removal.suites import SUITES\n"
        "from tests.integration.test_watermark_evaluate import slow_suite\n"
        f"SUITES['tiny'] = slow_suite({str(diary)!r})\n"
        "main()\n"
    )
    line = [sys.executable, "-c", program, *map(str, line_of(place, out, jobs=2))]
    return subprocess.Popen(line, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def words(diary: Path) -> list[str]:
    return diary.read_text().split() if diary.exists() else []


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def running(group: int) -> bool:
    """Whether a process of this group is left; zombies do not count."""
    for entry in Path("/proc").iterdir():
        try:
            state, _, its_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if entry.name.isdigit() and int(its_group) == group and state != "Z":
            return True
    return False


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "SIGKILL"])
def test_interrupted_it_leaves_what_is_finished_and_nothing_running_and_goes_on(
    place: Path, tmp_path: Path, how: signal.Signals, host: Host, monkeypatch: pytest.MonkeyPatch
):
    """After Ctrl-C it goes on alone; after SIGKILL with processes again."""
    out, diary = tmp_path / "out", tmp_path / "diary"
    first = start(place, out, diary)
    finished = lambda: sorted((out / "attacks").glob("slow-*.json"))  # noqa: E731
    wait_for(lambda: len(finished()) >= 2 or first.poll() is not None)
    if how == signal.SIGINT:
        os.killpg(first.pid, how)  # as a terminal does: the whole group
    else:
        first.send_signal(how)
    said = first.communicate()[1]
    assert first.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert "Traceback" not in said
    wait_for(lambda: not running(first.pid))
    kept = {path: path.read_bytes() for path in finished()}
    assert 2 <= len(kept) < 6
    before = words(diary)

    if how == signal.SIGINT:
        monkeypatch.setitem(SUITES, "tiny", slow_suite(str(diary)))
        alone = host(*line_of(place, out, jobs=1))
        assert alone.code == 0, alone.error
        output = alone.out
    else:
        second = start(place, out, diary)
        output, said = second.communicate()
        assert second.returncode == 0, said
        wait_for(lambda: not running(second.pid))
    assert len(finished()) == 6 and all(path.read_bytes() == data for path, data in kept.items())
    done = {json.loads(data)["name"].split()[1] for data in kept.values()}
    assert not {word.split("-")[1] for word in words(diary)[len(before) :]} & done
    assert "6 attacks: " in output
