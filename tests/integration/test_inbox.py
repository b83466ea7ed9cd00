"""`pi-agent verify --inbox`: a folder that anybody may write to, real processes that are killed, links, pipes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pi_agent.contract.claim import new_key
from pi_agent.contract.errors import MagpieError, RefusedInput, RefusedModel, StorageError
from pi_agent.contract.files import sha256_hex, write_json
from pi_agent.contract.signed import load_signer, new_signer, read_signed, save_signer, write_signed
from pi_agent.inbox import Report, judge_inbox
from pi_agent.runtime.inspect import MAX_MODEL_BYTES
from pi_agent.verdicts import InboxBusy, Verdicts
from pi_agent.verify import Case, Verdict, open_case
from tests.support_models import NAMES, bound_key, save, trained_readout, write_claim

KEY, _ = bound_key()


class Place:
    """A claim, an inbox and a folder for the verdicts; models of the claim by name."""

    def __init__(self, folder: Path, models: dict[str, bytes]) -> None:
        self.inbox, self.verdicts, self.models = folder / "inbox", folder / "verdicts", models
        self.inbox.mkdir()
        self.claim = write_claim(folder, KEY, sha256_hex(models["marked"]))
        self.case = open_case(self.claim)

    def drop(self, name: str, data: bytes | None = None) -> str:
        """Put a file into the inbox; its SHA-256."""
        data = self.models[Path(name).stem] if data is None else data
        (self.inbox / name).write_bytes(data)
        return sha256_hex(data)

    def judge(self, pause: Callable[[], None] = lambda: None, signing_key: Path | None = None) -> Report:
        """One run; time is what `pause` makes of it."""
        return judge_inbox(self.inbox, self.verdicts, self.case, pause, signing_key)

    def verdict(self, digest: str) -> dict[str, Any]:
        """The kept verdict on a model."""
        found, signer = read_signed(self.path(digest), "verify/1")
        assert signer == load_signer(self.verdicts / ".judge.key").public
        return found

    def path(self, digest: str) -> Path:
        return self.verdicts / f"{digest}.json"

    def kept(self) -> list[str]:
        """Everything in the folder of verdicts but its lock and its signing key."""
        return sorted(p.name for p in self.verdicts.iterdir() if p.name not in (".lock", ".judge.key"))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The command itself."""
        command = [sys.executable, "-m", "pi_agent", "verify", "--claim", str(self.claim)]
        command += ["--inbox", str(self.inbox), "--verdicts", str(self.verdicts), *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def models() -> dict[str, bytes]:
    made = (("marked", 10, 0), ("partly", 7, 0), ("stranger", 0, 1))
    return {name: trained_readout(KEY, obeyed, seed).SerializeToString() for name, obeyed, seed in made}


@pytest.fixture
def place(tmp_path: Path, models: dict[str, bytes]) -> Place:
    return Place(tmp_path, models)


def test_every_model_gets_its_verdict_and_a_bad_file_stops_nobody(place: Place) -> None:
    digests = {name: place.drop(f"{name}.onnx") for name in place.models}
    bad = place.drop("a-bad-one.onnx", b"this is no model")
    place.drop("notes.txt", b"no suspect")
    place.drop(".marked.onnx.upload", b"half")
    process = place.start("--json")
    out, log = process.communicate(timeout=100)
    assert process.returncode == 0, log
    found = json.loads(out)
    assert found["schema"] == "verify-inbox/1"
    assert {(f["file"], f["sha256"], f["verdict"]) for f in found["judged"]} == {
        ("marked.onnx", digests["marked"], "owned"),
        ("partly.onnx", digests["partly"], "inconclusive"),
        ("stranger.onnx", digests["stranger"], "not-owned"),
        ("a-bad-one.onnx", bad, "refused"),
    }
    assert place.kept() == sorted(f"{digest}.json" for digest in [*digests.values(), bad])


def test_a_verdict_holds_what_verify_says_with_json(place: Place) -> None:
    digest = place.drop("marked.onnx")
    place.judge()
    command = [sys.executable, "-m", "pi_agent", "verify", str(place.inbox / "marked.onnx"), "--json"]
    alone = subprocess.run([*command, "--claim", str(place.claim)], capture_output=True, text=True, timeout=100)
    expected = json.loads(alone.stdout)
    kept = place.verdict(digest)
    assert kept.items() >= {k: v for k, v in expected.items() if k != "seconds"}.items()
    assert kept.keys() - expected.keys() == {"file", "judged_at"}
    assert KEY.seed not in json.dumps(kept)


def test_a_refusal_is_kept_with_its_reason(place: Place) -> None:
    digest = place.drop("bad.onnx", b"this is no model")
    place.judge()
    kept = place.verdict(digest)
    assert (kept["schema"], kept["verdict"], kept["suspect_sha256"]) == ("verify/1", "refused", digest)
    assert kept["claim_sha256"] == place.case.claim_sha256
    assert kept["error"]["kind"] == "RefusedModel" and kept["error"]["exit"] == 65
    assert "model refused" in kept["error"]["message"] and kept["error"]["hint"]


def test_nothing_is_judged_twice_under_whatever_name(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.drop("marked.onnx")
    assert len(place.judge().judged) == 1
    place.drop("copy.onnx", place.models["marked"])
    monkeypatch.setattr(Case, "judge", lambda *_: pytest.fail("judged again"))
    report = place.judge()
    assert (report.judged, sorted(report.known)) == ([], ["copy.onnx", "marked.onnx"])


def test_two_copies_in_one_run_are_judged_once(place: Place) -> None:
    place.drop("one.onnx", b"no model")
    place.drop("two.onnx", b"no model")
    report = place.judge()
    assert (len(report.judged), report.known) == (1, ["two.onnx"])


def test_links_pipes_and_huge_files_are_left_alone(place: Place, tmp_path: Path) -> None:
    outside = save(place.models["marked"], tmp_path / "outside.onnx")
    (place.inbox / "link.onnx").symlink_to(outside)
    (place.inbox / "dangling.onnx").symlink_to(tmp_path / "nowhere")
    os.link(outside, place.inbox / "hard.onnx")
    os.mkfifo(place.inbox / "pipe.onnx")
    (place.inbox / "folder.onnx").mkdir()
    with (place.inbox / "huge.onnx").open("wb") as huge:
        huge.truncate(MAX_MODEL_BYTES + 1)
    report = place.judge()
    assert report.judged == [] and place.kept() == []
    assert report.skipped == {
        "link.onnx": "a symbolic link",
        "dangling.onnx": "a symbolic link",
        "hard.onnx": "the file has several names (hard links)",
        "pipe.onnx": "not a regular file",
        "folder.onnx": "not a regular file",
        "huge.onnx": "larger than 256 MiB",
    }
    assert report.problem() is None


def test_names_cannot_talk_to_the_terminal(place: Place) -> None:
    place.drop("\x1b[2J\n.onnx", b"no model")
    (place.inbox / os.fsdecode(b"\xff.onnx")).write_bytes(b"nor this")
    process = place.start()
    out, log = process.communicate(timeout=100)
    assert process.returncode == 0, log
    assert "\\x1b[2J\\n.onnx" in out and "\x1b" not in out + log
    assert len(place.kept()) == 2


def test_a_file_that_still_grows_is_looked_at_again(place: Place) -> None:
    whole = place.models["marked"]
    sizes = iter(range(1000, len(whole), len(whole) // 5))

    def copying() -> None:
        (place.inbox / "marked.onnx").write_bytes(whole[: next(sizes, len(whole))])

    copying()
    report = place.judge(pause=copying)
    assert report.judged == []
    assert report.unfinished == ["marked.onnx"], "written at every look, so it was never judged"
    assert place.kept() == []
    assert report.problem() is not None and report.problem().exit_code == 75  # type: ignore[union-attr]
    assert [f["verdict"] for f in place.judge().judged] == ["owned"]


def test_a_file_that_is_whole_while_we_look_is_judged_in_the_same_run(place: Place) -> None:
    whole = place.models["marked"]
    parts = iter([whole[:1000], whole[:2000], whole])

    def copying() -> None:
        if part := next(parts, None):
            (place.inbox / "marked.onnx").write_bytes(part)

    copying()
    report = place.judge(pause=copying)
    assert [f["verdict"] for f in report.judged] == ["owned"] and len(place.kept()) == 1


def test_what_arrives_during_the_run_is_judged_before_it_ends(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.drop("stranger.onnx")
    judge = Case.judge

    def slow(self: Case, path: Path) -> Verdict:
        if path.name == "stranger.onnx":
            place.drop("marked.onnx")
        return judge(self, path)

    monkeypatch.setattr(Case, "judge", slow)
    assert [f["file"] for f in place.judge().judged] == ["stranger.onnx", "marked.onnx"]


def test_a_file_that_changes_under_every_look_cannot_hold_the_run(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.drop("a-restless.onnx", b"x")
    place.drop("b.onnx", b"no model")

    def restless(self: Case, path: Path) -> Verdict:
        if path.name == "a-restless.onnx":
            path.write_bytes(path.read_bytes() + b"x")
        raise RefusedModel(path=path, reason="not a model")

    monkeypatch.setattr(Case, "judge", restless)
    report = place.judge()
    assert [f["file"] for f in report.judged] == ["b.onnx"]
    assert report.unfinished == ["a-restless.onnx"]


def test_a_file_that_is_exchanged_while_it_is_judged_gets_no_verdict(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = place.drop("suspect.onnx", place.models["marked"])
    calls = []

    def exchange(self: Case, path: Path) -> Verdict:
        calls.append(path)
        if len(calls) == 1:
            path.write_bytes(b"another file")
            raise RefusedModel(path=path, reason="whatever it is now")
        raise RefusedModel(path=path, reason="not a model")

    monkeypatch.setattr(Case, "judge", exchange)
    report = place.judge()
    assert place.kept() == [sha256_hex(b"another file") + ".json"]
    assert [f["sha256"] for f in report.judged] == [sha256_hex(b"another file")] != [digest]


def test_a_file_that_is_taken_away_is_no_error(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.drop("suspect.onnx", b"gone soon")

    def vanish(self: Case, path: Path) -> Verdict:
        path.unlink()
        raise FileNotFoundError(path)

    monkeypatch.setattr(Case, "judge", vanish)
    report = place.judge()
    assert (report.judged, report.failed, place.kept()) == ([], [], [])


def test_an_error_of_ours_is_told_and_stops_nobody(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.drop("a.onnx", b"one")
    place.drop("b.onnx", b"two")

    def broken(self: Case, path: Path) -> Verdict:
        if path.name == "a.onnx":
            raise ZeroDivisionError
        raise RefusedModel(path=path, reason="not a model")

    monkeypatch.setattr(Case, "judge", broken)
    report = place.judge()
    assert report.failed == ["a.onnx"] and [f["file"] for f in report.judged] == ["b.onnx"]
    problem = report.problem()
    assert isinstance(problem, MagpieError) and problem.exit_code == 1
    assert place.kept() == [sha256_hex(b"two") + ".json"]


def test_a_full_disk_is_not_the_files_fault(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.drop("a.onnx", b"one")

    def full(self: Case, path: Path) -> Verdict:
        raise StorageError(path=path, reason="No space left on device")

    monkeypatch.setattr(Case, "judge", full)
    with pytest.raises(StorageError):
        place.judge()
    assert place.kept() == []


def test_a_second_run_at_the_same_time_is_turned_away(place: Place) -> None:
    place.drop("marked.onnx")
    with Verdicts(place.verdicts, "").only_one():
        with pytest.raises(InboxBusy):
            place.judge()
        process = place.start("--json")
        _, log = process.communicate(timeout=100)
        assert process.returncode == 75
        assert json.loads(log.splitlines()[-1])["error"]["kind"] == "InboxBusy"
    assert len(place.judge().judged) == 1


def test_killed_at_any_moment_it_goes_on_where_it_was(place: Place) -> None:
    """Each round kills a run a little later; whatever it left behind, the last one has all verdicts."""
    digests = {place.drop(f"{name}.onnx") for name in place.models}
    for delay in (0.5, 1.5, 2.5, 3.0):
        process = place.start()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=100)
        for path in place.verdicts.glob("*.json") if place.verdicts.exists() else ():
            assert json.loads(path.read_text())["verdict"] in ("owned", "inconclusive", "not-owned", "refused")
    place.judge()
    assert {path.stem for path in place.verdicts.glob("*.json")} == digests
    assert not list(place.verdicts.glob(".*.attempts"))


def test_a_stop_by_systemd_is_tidy_and_no_refusal(place: Place, tmp_path: Path) -> None:
    place.drop("marked.onnx")
    process = place.start()
    wait_for(lambda: (place.verdicts / ".lock").exists() and locked(place.verdicts / ".lock"))
    process.terminate()
    _, log = process.communicate(timeout=100)
    assert process.returncode == 130 and "interrupted" in log
    assert place.kept() == []


def locked(path: Path) -> bool:
    with path.open("r+b") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def wait_for(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_file_that_kills_every_run_comes_last_and_is_refused_in_the_end(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the kernel's out-of-memory killer would: real processes die in the middle of a judgement."""
    deadly = place.drop("a-deadly.onnx", b"deadly")
    place.drop("b.onnx", b"harmless")

    def die(self: Case, path: Path) -> Verdict:
        if path.name == "a-deadly.onnx":
            os.kill(os.getpid(), signal.SIGKILL)
        raise RefusedModel(path=path, reason="not a model")

    monkeypatch.setattr(Case, "judge", die)
    for run in range(3):
        child = os.fork()
        if child == 0:
            place.judge()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        assert (sha256_hex(b"harmless") + ".json" in place.kept()) == (run > 0), "from the second run on it comes first"
    report = place.judge()
    assert {f["file"]: f["verdict"] for f in report.judged} == {"a-deadly.onnx": "refused"}
    assert "3 runs over it died" in place.verdict(deadly)["error"]["message"]
    assert len(place.kept()) == 2


def test_a_torn_verdict_is_written_again(place: Place) -> None:
    digest = place.drop("bad.onnx", b"no model")
    place.judge()
    (place.verdicts / f"{digest}.json").write_text('{"schema": "ver')
    assert len(place.judge().judged) == 1
    assert place.verdict(digest)["verdict"] == "refused"


@pytest.mark.parametrize(
    "how", ["a byte", "unsigned", "by somebody else", "of another model", "a link", "a link to a folder"]
)
def test_a_verdict_that_somebody_altered_is_noticed_and_reached_anew(
    place: Place, how: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    digest, other = place.drop("bad.onnx", b"no model"), place.drop("worse.onnx", b"no model either")
    place.judge()
    path, honest = place.path(digest), place.verdict(digest)
    owned = {**honest, "verdict": "owned"}
    if how == "a byte":
        path.write_bytes(path.read_bytes().replace(b'"refused"', b'"owned"'))
    elif how == "unsigned":
        write_json(path, owned)
    elif how == "by somebody else":
        write_signed(path, owned, new_signer())
    elif how == "of another model":
        path.write_bytes(place.path(other).read_bytes())
    elif how == "a link":
        path.rename(tmp_path / "elsewhere.json")
        path.symlink_to(tmp_path / "elsewhere.json")
    else:
        path.unlink()
        path.symlink_to(place.inbox)
    report = place.judge()
    assert [f["file"] for f in report.judged] == ["bad.onnx"] and report.known == ["worse.onnx"]
    assert [r.levelname for r in caplog.records if "verdict-not-counted" in r.message] == ["WARNING"]
    found = place.verdict(digest)
    assert {**found, "judged_at": ""} == {**honest, "judged_at": ""} and not path.is_symlink()


def test_the_signing_key_is_made_once_and_is_nobody_elses(place: Place) -> None:
    first = place.drop("bad.onnx", b"no model")
    place.judge()
    key = place.verdicts / ".judge.key"
    signer, mode = load_signer(key), key.stat().st_mode & 0o777
    second = place.drop("worse.onnx", b"no model either")
    place.judge()
    assert mode == 0o600 and load_signer(key) == signer
    assert {read_signed(place.path(d), "verify/1")[1] for d in (first, second)} == {signer.public}


def test_a_key_of_the_judges_own_signs_the_verdicts(place: Place, tmp_path: Path) -> None:
    own = new_signer()
    save_signer(tmp_path / "my.key", own)
    digest = place.drop("bad.onnx", b"no model")
    process = place.start("--signing-key", str(tmp_path / "my.key"))
    _, log = process.communicate(timeout=100)
    assert process.returncode == 0, log
    assert read_signed(place.path(digest), "verify/1")[1] == own.public
    assert place.kept() == [f"{digest}.json"] and not (place.verdicts / ".judge.key").exists()


def test_a_damaged_signing_key_stops_the_run_before_it_begins(place: Place) -> None:
    place.drop("marked.onnx")
    place.verdicts.mkdir()
    (place.verdicts / ".judge.key").write_text("{}")
    (place.verdicts / ".judge.key").chmod(0o600)
    process = place.start()
    _, log = process.communicate(timeout=100)
    assert process.returncode == 78 and "a signing key is 64 hexadecimal digits" in log
    assert place.kept() == []


def test_verdicts_about_another_claim_are_not_mixed_in(place: Place, tmp_path: Path) -> None:
    place.drop("bad.onnx", b"no model")
    place.judge()
    (tmp_path / "other").mkdir()
    other = open_case(write_claim(tmp_path / "other", new_key(NAMES, 10, seed=bytes(32))))
    with pytest.raises(RefusedInput, match="another claim"):
        judge_inbox(place.inbox, place.verdicts, other, lambda: None)


def test_a_bad_claim_is_no_verdict_on_anybody(place: Place) -> None:
    place.drop("marked.onnx")
    place.claim.write_text("{}")
    process = place.start()
    process.communicate(timeout=100)
    assert process.returncode == 65
    assert not place.verdicts.exists()


@pytest.mark.parametrize("arguments", [["--inbox", "."], ["--verdicts", "v"], ["s.onnx", "--inbox", "."], []])
def test_half_of_the_options_is_wrong_usage(place: Place, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "pi_agent", "verify", "--claim", str(place.claim), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=place.inbox)
    assert done.returncode == 2
    assert "or --inbox together with --verdicts" in done.stderr


def test_what_may_not_be_read_is_left_alone(models: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        place = Place(Path(name), models)
        place.drop("secret.onnx", b"no model")
        (place.inbox / "secret.onnx").chmod(0)
        place.verdicts.mkdir()
        for folder in (Path(name), place.verdicts):
            folder.chmod(0o777)
        child = os.fork()
        if child == 0:
            with contextlib.suppress(PermissionError):
                os.setuid(65534)  # root may read everything
            os._exit(0 if place.judge().skipped == {"secret.onnx": "Permission denied"} else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
