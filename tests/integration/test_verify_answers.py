"""`pi-agent verify --answers` and `--questions`: a verdict from what a suspect has said, without asking anybody."""

from __future__ import annotations

import io
import json
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.files import sha256_hex
from pi_agent.contract.transfer_set import TransferItem, add_member, write_transfer_set
from pi_agent.prepare import decode_picture, decode_query, encode_query
from pi_agent.verify import Case, Manner, Terms, Verdict, open_case
from pi_agent.verify.answer_lines import MAX_LINE_BYTES, read_answer_lines
from pi_agent.verify.matching import Finder
from pi_agent.verify.sheet import Sheet
from pi_agent.verify.stored import judge_answers
from tests.support import query_jpeg
from tests.support_agent import Pi
from tests.support_api import KEY, QUESTIONS, model_folder, small_claim
from tests.support_server import serving
from training_host.predictor import Predictor, load_predictor

YEAR = ("--period", "366d")
OFFLINE = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}


@dataclass
class Suspect:
    """A claim, and the answers of a marked model to its questions."""

    claim: Path
    folder: Path
    case: Case
    sheet: Sheet
    predictor: Predictor

    def items(self, vary: Callable[[bytes], bytes] = lambda jpeg: jpeg) -> Iterator[TransferItem]:
        """Every question, answered; `vary` writes the picture in another way."""
        for image in self.sheet.images():
            jpeg = vary(image.jpeg)
            vector = self.predictor.scores(decode_query(jpeg))
            yield TransferItem(sha256_hex(jpeg), jpeg, KEY.classes, vector[None], ("2026-11-21T00:00:00Z",), (7,))

    def transfer_set(self, path: Path, vary: Callable[[bytes], bytes] = lambda jpeg: jpeg) -> Path:
        """The same as a file."""
        write_transfer_set(path, {}, self.items(vary))
        return path

    def lines(self, path: Path, about: Callable[[TransferItem], dict[str, Any]]) -> Path:
        """The same as lines of JSON; `about` makes one of an item."""
        path.write_text("".join(json.dumps({"sha256": i.sha256, **about(i)}) + "\n" for i in self.items()))
        return path


@pytest.fixture(scope="module")
def suspect(tmp_path_factory: pytest.TempPathFactory) -> Suspect:
    folder = tmp_path_factory.mktemp("answers")
    claim, model = small_claim(folder), model_folder(folder / "marked")
    case = open_case(claim)
    return Suspect(claim, model, case, Sheet(case), load_predictor(model))


def same(found: Verdict, other: Verdict) -> bool:
    """Whether two verdicts rest on the same figures."""
    return (found.evidence, found.queries, found.alignment) == (other.evidence, other.queries, other.alignment)


def refusal(case: Case, path: Path) -> str:
    """Why these answers are refused."""
    with pytest.raises(RefusedInput) as caught:
        judge_answers(case, path)
    return str(caught.value)


def test_what_one_home_was_told_another_may_judge_without_a_network(suspect: Suspect, tmp_path: Path) -> None:
    pi, other, night = Pi(tmp_path / "home"), Pi(tmp_path / "other"), tmp_path / "night.tar"
    with serving(suspect.folder, "--quota-period", "366d") as served:
        pi.init(served.url, 100, *YEAR)
        asked = pi.done("verify", "--oracle", "--claim", suspect.claim)
        assert pi.fails("export", night)["exit"] == 65, "nobody shall train on a test"
        assert pi.done("export", night, "--verification")["images"] == QUESTIONS
    found = other.done("verify", "--answers", night, "--claim", suspect.claim, **OFFLINE)
    for key in ("verdict", "p_value", "hits", "queries", "channels"):
        assert found[key] == asked[key]
    assert (found["source"], found["suspect"], found["suspect_sha256"]) == ("answers", "night.tar", "")
    ground = found["grounds"][-1]
    assert (ground["what"], ground["solid"]) == ("answers", False)
    assert sha256_hex(night.read_bytes()) in ground["how"], "the report says which answers were judged"
    assert not other.home.exists(), "no home, no configuration"


def test_questions_are_written_asked_by_any_client_and_judged(suspect: Suspect, tmp_path: Path) -> None:
    pi, batch = Pi(tmp_path / "home"), tmp_path / "questions.tar"
    wrote = Pi(tmp_path / "judge").done("verify", "--questions", batch, "--claim", suspect.claim)
    assert wrote == {
        "schema": "verify-questions/1",
        "questions": QUESTIONS,
        "images": QUESTIONS,
        "path": str(batch),
    }
    assert stat.S_IMODE(batch.stat().st_mode) == 0o600
    with tarfile.open(batch) as tar:
        members = tar.getmembers()
        assert [m.name for m in members] == [f"{n:02}.jpg" for n in range(1, QUESTIONS + 1)]
        assert {(m.mtime, m.uid, m.uname, m.mode) for m in members} == {(0, 0, "", 0o644)}, "the names say nothing"
    first, second, both = (tmp_path / f"{name}.tar" for name in ("first", "second", "both"))
    with serving(suspect.folder, "--quota-period", "366d") as served:
        pi.init(served.url, 100, *YEAR)
        assert pi.done("add", batch)["added"] == QUESTIONS
        pi.done("collect", "--limit", 20)
        pi.done("export", first)
        error = pi.fails("verify", "--answers", first, "--claim", suspect.claim)
        assert error["exit"] == 65 and "26 of 46 questions have no answer in it" in error["message"]
        assert "--questions" in error["hint"]
        assert pi.done("collect")["settled"] == QUESTIONS - 20
        pi.done("export", second)
    both.write_bytes(first.read_bytes() + second.read_bytes())  # the second night holds the first one again
    verdicts = [pi.done("verify", "--answers", path, "--claim", suspect.claim) for path in (second, both)]
    assert [v["verdict"] for v in verdicts] == ["owned"] * 2
    assert verdicts[0]["p_value"] == verdicts[1]["p_value"]
    mixed = pi.fails("verify", "--answers", both, "--claim", suspect.claim, "--jpeg", "60-70")
    assert mixed["exit"] == 65 and "46 of 46 questions" in mixed["message"]


def test_scores_and_labels_of_ones_own_client_are_enough(suspect: Suspect, tmp_path: Path) -> None:
    from_tar = judge_answers(suspect.case, suspect.transfer_set(tmp_path / "night.tar"))
    assert (from_tar.verdict, from_tar.unanswered) == ("owned", 0)
    scores = suspect.lines(
        tmp_path / "scores.jsonl", lambda i: {"classes": list(i.classes), "scores": i.mean.tolist(), "at": "noon"}
    )
    assert same(judge_answers(suspect.case, scores), from_tar)
    named = suspect.lines(
        tmp_path / "named.jsonl", lambda i: {"classes": list(i.classes), "label": i.classes[int(i.mean.argmax())]}
    )
    bare = suspect.lines(tmp_path / "bare.jsonl", lambda i: {"label": i.classes[int(i.mean.argmax())]})
    verdicts = [judge_answers(suspect.case, path) for path in (named, bare)]
    assert [v.verdict for v in verdicts] == ["owned"] * 2 and same(*verdicts)
    bare.write_bytes(b"\xef\xbb\xbf" + bare.read_bytes() + b"\n \n")  # as an editor may leave it
    assert same(judge_answers(suspect.case, bare), verdicts[0])
    renamed = suspect.lines(tmp_path / "renamed.jsonl", lambda i: {"label": f"c{int(i.mean.argmax())}"})
    found = judge_answers(suspect.case, renamed)
    assert (found.verdict, found.alignment.expected) == ("owned", False)


def test_several_answers_to_a_question_are_averaged(suspect: Suspect, tmp_path: Path) -> None:
    def noisy(item: TransferItem, sign: int) -> dict[str, Any]:
        shift = np.where(np.arange(8) % 2, 0.01, -0.01) * sign
        return {"classes": list(item.classes), "scores": (item.mean.astype(np.float64) + shift).tolist()}

    parts = [suspect.lines(tmp_path / f"{sign}", lambda i, sign=sign: noisy(i, sign)) for sign in (1, -1)]  # type: ignore[misc]
    both = tmp_path / "both.jsonl"
    both.write_bytes(b"".join(path.read_bytes() for path in parts))
    plain = judge_answers(suspect.case, suspect.transfer_set(tmp_path / "plain.tar"))
    found = judge_answers(suspect.case, both)
    assert found.evidence.hit == plain.evidence.hit
    np.testing.assert_allclose(found.evidence.share, plain.evidence.share, atol=1e-7)
    assert not np.allclose(judge_answers(suspect.case, parts[0]).evidence.share, plain.evidence.share, atol=1e-3)


def test_pictures_that_another_jpeg_library_wrote_are_found_by_what_they_show(suspect: Suspect, tmp_path: Path) -> None:
    def again(jpeg: bytes) -> bytes:
        return encode_query(decode_picture(jpeg))

    assert not {i.sha256 for i in suspect.items(again)} & set(suspect.sheet.numbers)
    found = judge_answers(suspect.case, suspect.transfer_set(tmp_path / "again.tar", again))
    assert (found.verdict, found.queries) == ("owned", QUESTIONS)

    def coarse(jpeg: bytes) -> bytes:
        out = io.BytesIO()
        Image.open(io.BytesIO(jpeg)).save(out, "JPEG", quality=30)
        return out.getvalue()

    assert "46 of 46" in refusal(suspect.case, suspect.transfer_set(tmp_path / "coarse.tar", coarse))


def test_a_picture_between_two_questions_belongs_to_neither(suspect: Suspect) -> None:
    """With --mix and --jpeg the same picture is asked in several qualities."""
    sheet = Sheet(open_case(suspect.claim, Terms(manner=Manner(2, (90, 98)))))
    finder, shown = Finder(sheet), decode_picture(next(suspect.sheet.images()).jpeg)
    assert [finder.find(image.jpeg) for image in sheet.images()] == list(sheet.numbers)
    assert finder.find(query_jpeg(5)) is None and finder.find(b"no picture") is None
    ordinary = suspect.case.questionnaire.questions[0].first
    questions = sheet.case.questionnaire.questions
    qualities = {q.quality for q in questions if q.rule is None and q.first == ordinary and q.quality}
    assert len(qualities) > 1, "else there is nothing between"
    assert finder.find(encode_query(shown, 50)) is None


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty", b"", "46 of 46 questions have no answer"),
        ("rubbish", b"no answers, no tar" * 100, "no answered image in it"),
        ("half", b'{"sha256": "', "not valid JSON"),
        ("deep", b'{"a":' + b"[" * 100_000, "not valid JSON"),
        ("list", b'{"sha256": "%s", "label": "glass"}\n[]' % (b"a" * 64), "line 2: refused: a JSON object is expected"),
        ("hash", b'{"sha256": "ABC", "label": "glass"}', "64 hexadecimal digits"),
        ("nothing", b'{"sha256": "%s"}' % (b"a" * 64), "neither scores nor a label"),
        ("escape", b'{"sha256": "%s", "label": "a\\u001b[2J"}' % (b"a" * 64), "neither scores nor a label"),
        ("nan", b'{"sha256": "%s", "classes": ["a", "b"], "scores": [NaN, 1]}' % (b"a" * 64), "NaN is not JSON"),
        ("sum", b'{"sha256": "%s", "classes": ["a", "b"], "scores": [1, 1]}' % (b"a" * 64), "must sum to 1"),
        ("nameless", b'{"sha256": "%s", "scores": [0, 1]}' % (b"a" * 64), "no lists `classes` and `scores`"),
        ("long", b'{"sha256": "' + b"a" * MAX_LINE_BYTES, "line 1 is longer than 2048 KiB"),
    ],
)
def test_a_file_that_is_no_answers_is_refused_with_the_line(
    suspect: Suspect, tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    path = tmp_path / f"{name}.jsonl"
    path.write_bytes(content)
    assert reason in refusal(suspect.case, path)


def test_lines_that_do_not_fit_each_other_are_refused(suspect: Suspect, tmp_path: Path) -> None:
    path, sha256 = tmp_path / "lines.jsonl", next(iter(suspect.sheet.numbers))
    label, named = {"label": "glass"}, {"classes": ["glass", "metal"], "label": "glass"}
    for lines, reason in (
        ((label, named), "line 2: refused: some lines name their classes, and some do not"),
        ((named, label), "line 2: refused: some lines name their classes, and some do not"),
        ((named, {"classes": ["metal", "glass"], "label": "glass"}), "another order"),
        ([{"label": f"class {n}"} for n in range(4097)], "more than 4096 different labels"),
    ):
        path.write_text("".join(json.dumps({"sha256": sha256, **line}) + "\n" for line in lines))
        assert reason in refusal(suspect.case, path)


def test_hostile_files_end_in_a_refusal(suspect: Suspect, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert "not a regular file" in refusal(suspect.case, tmp_path / "fifo")
    assert "not a regular file" in refusal(suspect.case, tmp_path)
    assert "No such file" in refusal(suspect.case, tmp_path / "missing.tar")
    jpeg = next(suspect.sheet.images()).jpeg
    with tarfile.open(tmp_path / "forged.tar", "w") as tar:
        add_member(tar, f"{'0' * 64}.jpg", jpeg)
    assert "does not have the hash" in refusal(suspect.case, tmp_path / "forged.tar")
    endless = TransferItem(sha256_hex(jpeg), jpeg, KEY.classes, np.tile(np.eye(8, dtype=np.float32)[:1], (1001, 1)))
    write_transfer_set(tmp_path / "endless.tar", {}, [endless])
    assert "more than 1000 answers" in refusal(suspect.case, tmp_path / "endless.tar")
    huge = tmp_path / "huge.tar"
    with huge.open("wb") as stream:
        stream.truncate(4 * 1024**3 + 1)
    ended = Pi(tmp_path / "home").run("verify", "--answers", huge, "--claim", suspect.claim)
    assert ended.code == 65 and "larger than 4 GiB" in ended.stderr


HASHES = [f"{n:064x}" for n in range(3)]
LINES = st.fixed_dictionaries(
    {},
    optional={
        "sha256": st.sampled_from(HASHES) | st.text(max_size=3),
        "label": st.sampled_from(["glass", "metal", "x"]) | st.none() | st.text(max_size=3),
        "classes": st.lists(st.sampled_from(["glass", "metal", "x"]), max_size=3),
        "scores": st.lists(st.sampled_from([0, 0.5, 1, -1, 1e400]) | st.floats(), max_size=3),
    },
)


@given(st.lists(LINES.map(json.dumps) | st.text(max_size=20), max_size=4) | st.binary(max_size=60).map(repr))
def test_any_lines_give_shares_that_sum_to_one_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    try:
        found, classes = read_answer_lines(path, HASHES[:2], ("glass", "metal"))
    except RefusedInput as exc:
        assert "any.jsonl" in str(exc)
        return
    assert set(found) <= set(HASHES[:2])
    for vector in found.values():
        assert vector.shape == (len(classes),) and (vector >= 0).all() and vector.sum() == pytest.approx(1)


@given(st.lists(st.sampled_from(HASHES), max_size=6), st.lists(st.sampled_from("abc"), min_size=6, max_size=6))
def test_labels_are_counted_as_votes(
    tmp_path_factory: pytest.TempPathFactory, asked: list[str], labels: list[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "votes.jsonl"
    said = list(zip(asked, labels, strict=False))
    path.write_text("".join(json.dumps({"sha256": s, "label": v}) + "\n" for s, v in said))
    found, classes = read_answer_lines(path, HASHES[:2], ("a", "z"))
    assert set(found) == set(asked) & set(HASHES[:2])
    for sha256, vector in found.items():
        votes = [v for s, v in said if s == sha256]
        assert dict(zip(classes, vector, strict=True)) == {c: votes.count(c) / len(votes) for c in classes}
