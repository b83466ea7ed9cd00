"""`verify --report` and `check`: signed documents, in real processes; altered ones are refused, whatever the byte."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pi_agent.contract.claim import commitment_document, draw_rules, load_claim, new_key
from pi_agent.contract.errors import CannotCreate, MagpieError, RefusedInput
from pi_agent.contract.files import sha256_hex
from pi_agent.contract.signed import load_signer, new_signer, parse_signed, save_signer, write_signed
from pi_agent.papers import bonds, read_paper
from pi_agent.signing import signer_at
from pi_agent.verify import open_case
from pi_agent.verify.report import Outputs, content_of
from tests.support_faults import BROKEN, Fault, failing_files
from tests.support_models import NAMES, SIGNER, bound_key, save, trained_readout, write_claim

KEY, _ = bound_key()
JUDGE = new_signer()


class Court:
    """A folder with claim, commitment, suspects and the judge's key, and a report on one of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.marked = save(trained_readout(KEY, 10), folder / "marked.onnx")
        self.stranger = save(trained_readout(KEY, 0, 1), folder / "stranger.onnx")
        self.claim = write_claim(folder, KEY, sha256_hex(self.marked.read_bytes()))
        self.commitment = folder / "commitment.json"
        write_signed(self.commitment, commitment_document(load_claim(self.claim).key), SIGNER)
        self.key = folder / "judge.key"
        save_signer(self.key, JUDGE)
        self.report, self.page = folder / "report.json", folder / "report.html"
        self.done = self.verify(self.marked, "--report", self.report, "--html", self.page, "--json")

    def agent(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pi_agent", "--home", str(self.folder / "home"), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)

    def verify(self, suspect: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
        key = () if "--signing-key" in arguments or "--report" not in arguments else ("--signing-key", self.key)
        return self.agent("verify", suspect, "--claim", self.claim, *key, *arguments)

    def refused(self, *arguments: object) -> str:
        """The reason for which `check` refuses, exit 65."""
        done = self.agent("check", *arguments)
        assert done.returncode == 65, done.stdout + done.stderr
        return done.stderr


@pytest.fixture(scope="module")
def court(tmp_path_factory: pytest.TempPathFactory) -> Court:
    return Court(tmp_path_factory.mktemp("court"))


def test_the_report_holds_all_that_verify_says_and_is_signed_by_the_judge(court: Court) -> None:
    assert court.done.returncode == 0, court.done.stderr
    said = json.loads(court.done.stdout)
    content, signer = parse_signed(court.report.read_bytes(), "report")
    assert signer == JUDGE.public == said["signer"]
    assert content["schema"] == "verdict/1" and "new_key" not in said
    own = {"schema", "report", "html", "signer"}
    assert content.items() >= {k: v for k, v in said.items() if k not in own}.items()
    assert (said["report"], said["html"]) == (str(court.report), str(court.page))
    assert datetime.fromisoformat(content["judged_at"]).utcoffset() is not None
    assert content["judge"].keys() == {"program", "version", "onnxruntime", "machine"}
    assert content["registered"]["alpha"] == 1e-6 and content["registered"]["alpha_overridden"] is False
    assert content["manner"] == {"mix": 0, "jpeg": None} and content["questions"] == content["queries"] == 112
    assert content["claim"]["model_sha256"] == sha256_hex(court.marked.read_bytes())
    assert content["alignment"]["outputs"] == {name: i for i, name in enumerate(NAMES)}
    rules = [(r["first"], r["second"], r["geometry"], r["target"]) for r in content["rule_table"]]
    assert rules == [(r.first, r.second, r.geometry, r.target) for r in draw_rules(KEY)]
    assert {r["outcome"] for r in content["rule_table"]} == {"hit"}


def test_report_and_page_are_the_judges_alone_and_hold_no_secret(court: Court) -> None:
    for path in (court.report, court.page):
        text = path.read_text()
        assert path.stat().st_mode & 0o777 == 0o600
        assert KEY.seed not in text and KEY.salt not in text and JUDGE.secret not in text
    assert sha256_hex(court.report.read_bytes()) in court.page.read_text()
    assert not (court.folder / "home").exists(), "with a key of one's own, verify needs no home"


def test_every_altered_byte_is_noticed(court: Court) -> None:
    data = court.report.read_bytes()
    for position in range(len(data)):
        altered = bytearray(data)
        altered[position] ^= 1 << position % 7
        with pytest.raises(RefusedInput):
            parse_signed(bytes(altered), "report")
    for altered in (data[:-1], data + b" ", data + b"\n", data.replace(b"  ", b" ", 1), b"\xef\xbb\xbf" + data):
        with pytest.raises(RefusedInput):
            parse_signed(altered, "report")


@pytest.mark.parametrize(
    ("altered", "reason"),
    [
        (lambda data: data.replace(b'"owned"', b'"not-owned"', 1), "it was altered or damaged"),
        (lambda data: data.replace(b'  "verdict"', b' "verdict"', 1), "it was "),
        (lambda data: data[: len(data) // 2], "not valid JSON"),
        (lambda data: json.dumps({**json.loads(data), "signature": None}).encode(), "it is not signed"),
        (lambda data: b'{"schema": "verdict/1", "p_value": 1e999, "signature": 1}', "refused: it "),
        (lambda data: b"[" * 100_000, "not valid JSON"),
    ],
)
def test_check_refuses_an_altered_report(
    court: Court, tmp_path: Path, altered: Callable[[bytes], bytes], reason: str
) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(altered(court.report.read_bytes()))
    assert reason in court.refused(path)
    done = court.agent("check", path, "--json")
    assert json.loads(done.stdout)["intact"] is False and json.loads(done.stderr)["error"]["exit"] == 65


def test_check_says_what_a_report_is_and_who_signed_it(court: Court) -> None:
    done = court.agent("check", court.report, "--signer", JUDGE.public, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["schema"] == "check/1" and found["intact"] is True and found["refused"] == []
    (about,) = found["files"]
    assert about["kind"] == "report" and about["signer"] == JUDGE.public and about["verdict"] == "owned"
    assert about["sha256"] == sha256_hex(court.report.read_bytes())
    assert about["suspect_sha256"] == sha256_hex(court.marked.read_bytes())
    assert about["claim_sha256"] == sha256_hex(court.claim.read_bytes())
    text = court.agent("check", court.report)
    assert "report.json: intact, signed report" in text.stdout and f"signed by       {JUDGE.public}" in text.stdout
    assert "you must know from elsewhere" in text.stdout


def test_a_report_that_somebody_else_signed_is_refused_if_one_knows_the_judge(court: Court, tmp_path: Path) -> None:
    content, _ = parse_signed(court.report.read_bytes(), "report")
    forged = tmp_path / "report.json"
    write_signed(forged, {**content, "verdict": "not-owned"}, new_signer())
    assert court.agent("check", forged).returncode == 0, "intact it is"
    assert "somebody else signed it" in court.refused(forged, "--signer", JUDGE.public)


@pytest.mark.parametrize("key", ["ab", "Z" * 64, "AB" * 32, ""])
def test_a_public_key_that_is_none_is_wrong_usage(court: Court, key: str) -> None:
    done = court.agent("check", court.report, "--signer", key)
    assert done.returncode == 2 and "64 hexadecimal digits" in done.stderr


def test_everything_of_a_case_belongs_together(court: Court) -> None:
    papers = (court.report, court.claim, court.commitment, court.marked, court.folder / "carriers.tar")
    done = court.agent("check", *papers, "--signer", JUDGE.public, "--signer", SIGNER.public, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["belong_together"] is True
    assert [bond["said"] for bond in found["bonds"]] == [
        "the verdict is about this claim",
        "the verdict is about this commitment",
        "the verdict is about this file",
        "the claim opens this commitment",
        "the claim was filed with these carriers",
        "the claim was made for this model",
    ]
    assert "the claim opens this commitment" in court.agent("check", court.claim, court.commitment).stdout


def test_check_tells_nothing_of_the_key(court: Court) -> None:
    text = "".join(
        court.agent("check", court.report, court.claim, court.commitment, *more).stdout for more in ((), ("--json",))
    )
    claim = load_claim(court.claim)
    for secret in (claim.key.seed, claim.key.salt, "geometry", "left-right", "top-bottom", "centre", "target", *NAMES):
        assert secret not in text


def test_what_does_not_belong_together_is_refused(court: Court, tmp_path: Path) -> None:
    other = write_claim(tmp_path, new_key(NAMES, 10, seed=bytes(32)))
    promise = tmp_path / "commitment.json"
    write_signed(promise, commitment_document(load_claim(other).key), SIGNER)
    assert "the verdict is about another claim" in court.refused(court.report, other)
    assert "the verdict is about another suspect" in court.refused(court.report, court.stranger)
    assert "the verdict is about another commitment" in court.refused(court.report, promise)
    assert "the claim does not open this commitment" in court.refused(court.claim, promise)
    assert "other carriers" in court.refused(court.claim, shutil.copy(court.page, tmp_path / "x.tar"))
    done = court.agent("check", court.claim, court.stranger)
    assert done.returncode == 0, "a suspect beside a claim is usually not the owner's model"


def test_a_commitment_that_somebody_else_signed_is_refused(court: Court, tmp_path: Path) -> None:
    path = tmp_path / "commitment.json"
    write_signed(path, commitment_document(load_claim(court.claim).key), new_signer())
    assert "not signed by the owner whom it names" in court.refused(path)


def test_all_bad_files_are_named_and_the_good_ones_still_told(court: Court, tmp_path: Path) -> None:
    (tmp_path / "empty.json").touch()
    done = court.agent("check", tmp_path / "empty.json", court.report, tmp_path / "nowhere.json", court.key)
    assert done.returncode == 65 and "report.json: intact" in done.stdout
    assert "3 of 4 files" in done.stderr and "No such file" in done.stderr and "it is not signed" in done.stderr
    assert JUDGE.secret not in done.stdout + done.stderr


def test_a_signed_document_cannot_talk_to_the_terminal(court: Court, tmp_path: Path) -> None:
    hostile: dict[str, Any] = {"schema": "verdict/1\x1b[2J", "verdict": "\x1b[31m" * 99}
    write_signed(tmp_path / "a\x1b.json", hostile, new_signer())
    write_signed(tmp_path / "b.json", {**hostile, "schema": "verdict/1", "suspect": {"a": []}}, new_signer())
    done = court.agent("check", tmp_path / "a\x1b.json", tmp_path / "b.json")
    assert done.returncode == 0 and "\x1b" not in done.stdout + done.stderr
    assert "intact, document" in done.stdout and "\\x1b[31m" in done.stdout


def test_the_verdicts_of_an_inbox_are_checked_as_well(court: Court, tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    shutil.copy(court.stranger, tmp_path / "inbox")
    verdicts = tmp_path / "verdicts"
    line = ("verify", "--claim", court.claim, "--inbox", tmp_path / "inbox", "--verdicts", verdicts)
    assert court.agent(*line).returncode == 0
    (verdict,) = verdicts.glob("*.json")
    signer = load_signer(verdicts / ".judge.key").public
    done = court.agent("check", verdict, court.claim, court.stranger, "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0 and found["files"][0].items() >= {"kind": "verdict", "signer": signer}.items()
    assert {bond["said"] for bond in found["bonds"]} == {
        "the verdict is about this claim",
        "the verdict is about this file",
    }
    verdict.write_bytes(verdict.read_bytes().replace(b"not-owned", b"owned"))
    assert "altered" in court.refused(verdict)


def test_without_a_key_of_ones_own_one_is_made_in_the_home_folder_and_kept(court: Court, tmp_path: Path) -> None:
    line = ("verify", court.marked, "--claim", court.claim, "--report", tmp_path / "report.json")
    command = [sys.executable, "-m", "pi_agent", "--home", str(tmp_path / "home"), *map(str, line)]
    first = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert first.returncode == 0, first.stderr
    key = tmp_path / "home" / "judge.key"
    assert f"new signing key: {key}" in first.stdout and key.stat().st_mode & 0o777 == 0o600
    assert f"signed by: {load_signer(key).public}" in first.stdout and load_signer(key).secret not in first.stdout
    second = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=100)
    said = json.loads(second.stdout)
    assert said["signer"] == load_signer(key).public and "new_key" not in said, "the same key, the same file"


def test_two_who_need_a_key_at_the_same_time_get_the_same_one(tmp_path: Path) -> None:
    command = "import sys; from pi_agent.signing import signer_at; from pathlib import Path\n"
    command += "sys.stdout.write(signer_at(Path(sys.argv[1]))[0].public)"
    line = [sys.executable, "-c", command, str(tmp_path / "judge.key")]
    started = [subprocess.Popen(line, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    found = {process.communicate(timeout=100)[0] for process in started}
    assert found == {signer_at(tmp_path / "judge.key")[0].public}


def test_a_page_alone_says_that_it_is_unsigned(court: Court, tmp_path: Path) -> None:
    done = court.verify(court.stranger, "--html", tmp_path / "page.html")
    assert done.returncode == 10 and f"page: {tmp_path / 'page.html'}" in done.stdout
    assert "signed by" not in done.stdout and not (court.folder / "home").exists()
    assert "This page is unsigned" in (tmp_path / "page.html").read_text()


NAMED_TWICE = {"claim": "claim", "marked": "suspect", "commitment": "commitment", "key": "signing key"}


@pytest.mark.parametrize(
    ("option", "name"),
    [
        *(("--report", name) for name in (*NAMED_TWICE, "carriers")),
        *(("--html", name) for name in ("claim", "marked", "carriers")),
    ],
)
def test_nothing_that_is_read_is_overwritten(court: Court, tmp_path: Path, option: str, name: str) -> None:
    there = court.folder / "carriers.tar" if name == "carriers" else getattr(court, name)
    before = there.read_bytes()
    link = tmp_path / "folder"
    link.symlink_to(court.folder)
    done = court.verify(court.marked, "--commitment", court.commitment, option, link / there.name)
    assert done.returncode == 73 and f"it is the {NAMED_TWICE.get(name, name)} as well" in done.stderr
    assert there.read_bytes() == before


def test_an_output_that_cannot_be_written_is_told_before_the_work(court: Court, tmp_path: Path) -> None:
    no_model = save(b"this is no model", tmp_path / "bad.onnx")
    (tmp_path / "folder").mkdir()
    places = (tmp_path / "nowhere" / "x", tmp_path / "folder", no_model / "x", Path("/dev/null"), Path("/proc/x"))
    for place in places:
        for option in ("--report", "--html"):
            done = court.verify(no_model, option, place)
            assert done.returncode == 73, (place, done.stderr)
    done = court.verify(no_model, "--report", tmp_path / "x", "--html", tmp_path / "x")
    assert done.returncode == 73 and "it is the report as well" in done.stderr
    done = court.verify(no_model, "--report", tmp_path / "x", "--signing-key", no_model)
    assert done.returncode == 78, "no key of ours"
    done = court.verify(no_model, "--report", tmp_path / "x", "--html", tmp_path / "y")
    assert done.returncode == 65 and not (tmp_path / "x").exists() and not (tmp_path / "y").exists()


@pytest.mark.parametrize("arguments", [["--signing-key", "k"], ["--html", "p.html", "--signing-key", "k"]])
def test_a_signing_key_that_signs_nothing_is_wrong_usage(court: Court, arguments: list[str]) -> None:
    done = court.verify(court.marked, *arguments)
    assert done.returncode == 2 and "--signing-key signs a --report" in done.stderr


def test_a_report_is_about_one_suspect(court: Court, tmp_path: Path) -> None:
    inbox = ("--inbox", court.folder, "--verdicts", tmp_path)
    for option in ("--report", "--html"):
        done = court.agent("verify", "--claim", court.claim, *inbox, option, tmp_path / "x")
        assert done.returncode == 2 and "for one suspect" in done.stderr


def test_a_disk_that_fails_leaves_nothing_half_written_and_the_report_if_only_the_page_fails(
    court: Court, tmp_path: Path
) -> None:
    case = open_case(court.claim)
    verdict = case.judge(court.marked)
    outputs = Outputs(tmp_path / "report.json", tmp_path / "page.html")
    reports = pages = 0
    for at in range(1, 100):
        for path in tmp_path.iterdir():
            path.unlink()
        fault = Fault(at=at, operations=BROKEN - {"delete"}, error=errno.ENOSPC, torn=True)
        try:
            with failing_files(fault):
                outputs.write(case, verdict, JUDGE)
            break
        except MagpieError as exc:
            assert exc.exit_code == 74
        names = sorted(path.name for path in tmp_path.iterdir())
        assert names in ([], ["report.json"], ["page.html", "report.json"])
        for _ in names[-1:]:
            assert parse_signed((tmp_path / "report.json").read_bytes(), "report")[1] == JUDGE.public
        if "page.html" in names:
            assert (tmp_path / "page.html").read_text().endswith("</html>\n")
        reports, pages = reports + (not names), pages + (names == ["report.json"])
    assert at > 4 and reports and pages, "each of the two was struck"


def test_a_report_on_answers_names_no_file(court: Court) -> None:
    case = open_case(court.claim)
    verdict = replace(case.judge(court.marked), source="oracle", suspect="http://x", suspect_sha256="")
    content = content_of(case, verdict, datetime.now(UTC))
    assert (content["source"], content["suspect_sha256"]) == ("oracle", "")
    path = court.folder / "oracle.json"
    write_signed(path, content, JUDGE)
    _, wrong = bonds([read_paper(path), read_paper(court.marked)])
    assert "another suspect" in wrong


def test_outputs_are_free_where_nothing_is_asked_for() -> None:
    assert not Outputs()
    Outputs().check({"claim": Path("claim.json")})
    with pytest.raises(CannotCreate):
        Outputs(page=Path("claim.json")).check({"claim": Path("./claim.json")})
