"""The real command: a pool becomes a batch, the agent takes it, and what was answered is not asked again."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pi_agent.contract.files import sha256_hex
from pi_agent.contract.output import run
from pi_agent.contract.transfer_set import TransferItem, safe_members, write_transfer_set
from pi_agent.prepare import decode_query, encode_query, is_query_image, prepare_file
from tests.support import query_jpeg, tiny_model_folder
from tests.support_agent import Pi
from training_host.attacks.strategies import STRATEGIES
from training_host.cli import cli
from training_host.data import waste
from training_host.data.batch import read_batch
from training_host.predictor import load_predictor

NAMES = waste.CLASSES[:4]
PER_CLASS = 10


class Host:
    """Calls `train-host` in this process and returns exit code, result and error."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, dict, dict]:
        self._capsys.readouterr()
        code = run(cli, "train-host", [*map(str, arguments), "--json"])
        said = self._capsys.readouterr()
        assert "Traceback" not in said.err
        errors = [line for line in said.err.splitlines() if line.startswith("{")]
        return code, json.loads(said.out or "{}"), json.loads(errors[-1])["error"] if errors else {}

    def done(self, *arguments: object) -> dict:
        code, result, error = self(*arguments)
        assert code == 0, error
        return result

    def fails(self, code: int, *arguments: object) -> str:
        found, result, error = self(*arguments)
        assert (found, result) == (code, {}) and error["exit"] == code and error["hint"]
        return f"{error['message']}; {error['hint']}"


@pytest.fixture
def host(capsys: pytest.CaptureFixture[str]) -> Host:
    return Host(capsys)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty rendered pictures in class folders."""
    folder = tmp_path_factory.mktemp("pool")
    for number, name in enumerate(NAMES):
        (folder / name).mkdir()
        for index in range(PER_CLASS):
            pixels = waste.render(name, np.random.default_rng([9, number, index]))
            (folder / name / f"{index:03}.jpg").write_bytes(encode_query(pixels, 90))
    return folder


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("oracle") / "model")


def hashes_of(pool: Path) -> set[str]:
    return {prepare_file(path).sha256 for path in pool.rglob("*.jpg")}


def members(batch: Path) -> list[tuple[str, bytes]]:
    return [(name, data) for name, data in safe_members(batch, 1 << 20) if name.endswith(".jpg")]


def answer(oracle: Path, batch: Path, out: Path, first: int | None = None) -> Path:
    """What a night with the batch leaves: its first pictures with the oracle's scores."""
    model = load_predictor(oracle)
    items = [
        TransferItem(sha256_hex(jpeg), jpeg, model.classes, model.scores(decode_query(jpeg))[None])
        for _, jpeg in members(batch)[:first]
    ]
    write_transfer_set(out, {}, items)
    return out


def test_a_round_after_the_other_asks_every_picture_once(host: Host, pool: Path, oracle: Path, tmp_path: Path):
    first = host.done("select", "--pool", pool, "--size", 20, "--strategy", "magpie", "--out", tmp_path / "1.tar")
    assert first["schema"] == "select/1" and first["strategy"] == "magpie"
    kinds = ("plain", "augmented", "mixed", "foreign")
    assert {k: first[k] for k in ("size", *kinds, "pool", "already_answered")} == {
        **{"size": 20, "plain": 20, "augmented": 0, "mixed": 0, "foreign": 0},
        **{"pool": 40, "already_answered": 0},
    }
    asked = members(tmp_path / "1.tar")
    assert {sha256_hex(jpeg) for _, jpeg in asked} < hashes_of(pool)
    classes = [path.parent.name for _, jpeg in asked for path in pool.rglob("*.jpg") if path.read_bytes() == jpeg]
    assert sorted(classes) == sorted(NAMES * 5)

    pi = Pi(tmp_path / "pi")
    pi.init("http://127.0.0.1:9", 100)
    assert pi.done("add", tmp_path / "1.tar")["added"] == 20
    rows = pi.rows("SELECT sha256 FROM image ORDER BY seq")
    assert [name for (name,) in rows] == [sha256_hex(jpeg) for _, jpeg in asked]

    night = answer(oracle, tmp_path / "1.tar", tmp_path / "night1.tar")
    trained = ("--arch", "recycleme-narrow", "--epochs", 1)
    host.done("distill", night, *trained, "--out", tmp_path / "copy")
    known = ("--pool", pool, "--answered", night, "--substitute", tmp_path / "copy")
    for name in STRATEGIES:
        second = host.done("select", *known, "--size", 30, "--strategy", name, "--out", tmp_path / f"{name}.tar")
        assert second["already_answered"] == 20 and second["size"] == sum(second[kind] for kind in kinds)
        now = [sha256_hex(jpeg) for _, jpeg in members(tmp_path / f"{name}.tar")]
        assert len(set(now)) == len(now) == second["size"] and not set(now) & {sha256_hex(j) for _, j in asked}
        assert second["size"] == (30 if name in ("magpie", "random", "copycat", "jacobian") else 20)
    assert pi.done("add", tmp_path / "magpie.tar")["added"] == 30


def test_changed_pictures_are_asked_in_full_size_and_a_plain_one_byte_for_byte(host: Host, pool: Path, tmp_path: Path):
    result = host.done("select", "--pool", pool, "--size", 60, "--strategy", "copycat", "--out", tmp_path / "b.tar")
    assert (result["plain"], result["augmented"]) == (30, 30)
    whole = hashes_of(pool)
    for name, jpeg in members(tmp_path / "b.tar"):
        assert is_query_image(jpeg)
        assert (sha256_hex(jpeg) in whole) == name.endswith("-plain.jpg")
    assert [name[:6] for name, _ in members(tmp_path / "b.tar")] == [f"{n:06}" for n in range(60)]


def test_the_same_command_finds_its_work_done_and_anything_else_is_left_alone(host: Host, pool: Path, tmp_path: Path):
    line = ("select", "--pool", pool, "--size", 12, "--out", tmp_path / "b.tar", "--strategy")
    first = host.done(*line, "random", "--seed", 3)
    content, time = (tmp_path / "b.tar").read_bytes(), (tmp_path / "b.tar").stat().st_mtime_ns
    assert host.done(*line, "random", "--seed", 3) == first
    assert (tmp_path / "b.tar").stat().st_mtime_ns == time
    for other in (("random", "--seed", 4), ("magpie", "--seed", 3), ("random", "--seed", 3, "--spare-held-out")):
        assert "another batch" in host.fails(73, *line, *other)
    assert (tmp_path / "b.tar").read_bytes() == content
    (tmp_path / "b.tar").unlink()
    assert host.done(*line, "random", "--seed", 3) == first and (tmp_path / "b.tar").read_bytes() == content

    (tmp_path / "diary.tar").write_text("dear diary")
    assert "something else" in host.fails(73, "select", "--pool", pool, "--size", 1, "--out", tmp_path / "diary.tar")
    assert (tmp_path / "diary.tar").read_text() == "dear diary"


def test_a_flat_folder_and_a_zip_are_pools_too_and_bad_or_equal_files_are_told(host: Host, pool: Path, tmp_path: Path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for seed in range(4):
        (flat / f"{seed}.jpg").write_bytes(query_jpeg(seed))
    (flat / "again.jpg").write_bytes(query_jpeg(0))
    (flat / "broken.jpg").write_bytes(query_jpeg(1)[:500])
    (flat / "notes.txt").write_text("no picture")
    result = host.done("select", "--pool", flat, "--size", 4, "--strategy", "kcenter", "--out", tmp_path / "flat.tar")
    assert (result["pool"], result["refused"], result["size"]) == (4, 1, 4)

    with zipfile.ZipFile(tmp_path / "pool.zip", "w") as archive:
        for path in sorted(pool.rglob("*.jpg")):
            archive.write(path, path.relative_to(pool))
    zipped, _ = (
        host.done("select", "--pool", p, "--size", 9, "--out", tmp_path / f"{p.suffix}9.tar")
        for p in (tmp_path / "pool.zip", pool)
    )
    assert zipped["pool"] == 40
    assert (tmp_path / ".zip9.tar").read_bytes() == (tmp_path / "9.tar").read_bytes()
    spared = host.done("select", "--pool", pool, "--size", 40, "--spare-held-out", "--strategy", "mixmatch", "--out",
                       tmp_path / "spared.tar")  # fmt: skip
    assert 20 < spared["pool"] < 40 and spared["size"] == spared["pool"]


def test_bad_input_ends_with_its_code_one_line_and_a_hint(host: Host, pool: Path, oracle: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("hello")
    out = ("--size", 5, "--out", tmp_path / "o.tar")
    assert host.fails(65, "select", "--pool", tmp_path / "missing", *out)
    assert "no pictures" in host.fails(65, "select", "--pool", tmp_path / "empty", *out)
    assert host.fails(65, "select", "--pool", pool, "--answered", tmp_path / "text", *out)
    assert host.fails(65, "select", "--pool", pool, "--answered", tmp_path / "missing", *out)
    assert host.fails(65, "select", "--pool", pool, "--substitute", tmp_path / "empty", *out)
    assert host.fails(2, "select", "--pool", pool, "--strategy", "clever", *out)
    assert host.fails(2, "select", "--pool", pool, "--size", 0, "--out", tmp_path / "o.tar")
    assert ".tar" in host.fails(2, "select", "--pool", pool, "--size", 5, "--out", tmp_path / "batch")
    assert host.fails(73, "select", "--pool", pool, "--size", 5, "--out", tmp_path / "nowhere" / "o.tar")
    stranger = tiny_model_folder(tmp_path / "stranger", ("cat", "dog"))
    pair = ("--substitute", oracle, "--substitute", stranger)
    assert "classes" in host.fails(65, "select", "--pool", pool, *pair, *out)
    batch = tmp_path / "all.tar"
    host.done("select", "--pool", pool, "--size", 40, "--strategy", "random", "--out", batch)
    night = answer(oracle, batch, tmp_path / "night.tar")
    assert "classes" in host.fails(65, "select", "--pool", pool, "--answered", night, "--substitute", stranger, *out)
    spent = ("--answered", night, "--strategy", "entropy", "--substitute", oracle)
    assert "nothing left" in host.fails(65, "select", "--pool", pool, *spent, *out)
    assert not (tmp_path / "o.tar").exists()


def test_a_batch_says_what_it_was_made_from_and_not_when(host: Host, pool: Path, tmp_path: Path):
    host.done("select", "--pool", pool, "--size", 3, "--strategy", "mixmatch", "--out", tmp_path / "b.tar")
    work, kinds = read_batch(tmp_path / "b.tar")
    assert work is not None and work["strategy"] == "MixMatch()" and (work["size"], work["seed"]) == (3, 0)
    assert kinds == {"plain": 3}
