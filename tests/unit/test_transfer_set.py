"""A transfer set goes round unchanged, can be concatenated, and is refused when anything in it is wrong."""

import io
import json
import os
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.files import sha256_hex
from pi_agent.contract.transfer_set import TransferItem, add_member, read_transfer_set, safe_members, write_transfer_set

CLASSES = ("a", "b", "c")


def item(seed: int, answers: int = 1) -> TransferItem:
    rng = np.random.default_rng(seed)
    jpeg = rng.bytes(200)
    vectors = rng.dirichlet(np.ones(3), answers).astype(np.float32)
    times = tuple(f"2026-11-2{i}T00:00:00Z" for i in range(answers))
    return TransferItem(sha256_hex(jpeg), jpeg, CLASSES, vectors, times, tuple(range(1, answers + 1)))


def votes(seed: int, *labels: int) -> TransferItem:
    """An image with labels only."""
    jpeg = np.random.default_rng(seed).bytes(200)
    return TransferItem(sha256_hex(jpeg), jpeg, CLASSES, np.eye(3, dtype=np.float32)[list(labels)], kind="label")


def same(a: TransferItem, b: TransferItem) -> bool:
    names = ("sha256", "jpeg", "classes", "times", "attempts", "kind")
    return all(getattr(a, n) == getattr(b, n) for n in names) and np.array_equal(a.vectors, b.vectors)


def test_a_set_comes_back_as_it_was_written(tmp_path: Path):
    items = [item(1), item(2, 3), item(3)]
    assert write_transfer_set(tmp_path / "t.tar", {"oracle": "x"}, items) == 3
    back = list(read_transfer_set(tmp_path / "t.tar"))
    assert all(same(a, b) for a, b in zip(items, back, strict=True))
    with tarfile.open(tmp_path / "t.tar") as tar:
        names = tar.getnames()
        record = json.load(tar.extractfile(f"{items[1].sha256}.json"))
    assert names[0] == "manifest.json" and names[1::2] == [f"{i.sha256}.jpg" for i in items]
    assert record["count"] == 3 and record["scores"] == pytest.approx(items[1].mean.tolist())
    assert record["sd"] == pytest.approx(items[1].vectors.std(axis=0, ddof=1).tolist(), abs=1e-6)


def test_labels_stay_labels_and_their_mean_is_the_share_of_votes(tmp_path: Path):
    write_transfer_set(tmp_path / "t.tar", {}, [votes(1, 2), item(2), votes(3, 1, 1, 0, 1)])
    back = list(read_transfer_set(tmp_path / "t.tar"))
    assert [i.kind for i in back] == ["label", "scores", "label"]
    assert back[0].vectors.tolist() == [[0, 0, 1]] and back[2].mean.tolist() == [0.25, 0.75, 0]
    assert np.array_equal(back[2].vectors, votes(3, 1, 1, 0, 1).vectors)
    with tarfile.open(tmp_path / "t.tar") as tar:
        record = json.load(tar.extractfile(f"{back[2].sha256}.json"))
    assert (record["kind"], record["count"], record["scores"]) == ("label", 4, [0.25, 0.75, 0])
    assert [a["label"] for a in record["answers"]] == ["b", "b", "a", "b"]


def test_an_oracle_that_began_with_labels_and_went_on_with_scores_loses_none(tmp_path: Path):
    mixed = replace(item(2, 3), kind="label")
    write_transfer_set(tmp_path / "t.tar", {}, [mixed])
    (back,) = read_transfer_set(tmp_path / "t.tar")
    assert same(back, replace(mixed, kind="scores"))


def test_nights_joined_with_cat_are_one_set(tmp_path: Path):
    for night in (1, 2):
        write_transfer_set(tmp_path / f"{night}.tar", {}, [item(night)])
    joined = tmp_path / "both.tar"
    with joined.open("wb") as out:
        subprocess.run(["cat", tmp_path / "1.tar", tmp_path / "2.tar"], stdout=out, check=True)
    assert [i.sha256 for i in read_transfer_set(joined)] == [item(1).sha256, item(2).sha256]


def test_a_failed_write_leaves_nothing(tmp_path: Path):
    def breaks():
        yield item(1)
        raise RuntimeError("the power went")

    with pytest.raises(RuntimeError):
        write_transfer_set(tmp_path / "t.tar", {}, breaks())
    assert list(tmp_path.iterdir()) == []


def tampered(path: Path, change) -> Path:
    """The set of `item(1)` with one change to its list of (name, data)."""
    source = path / "good.tar"
    write_transfer_set(source, {}, [item(1)])
    with tarfile.open(source) as tar:
        members = [[m.name, tar.extractfile(m).read()] for m in tar]
    change(members)
    with tarfile.open(path / "bad.tar", "w") as tar:
        for name, data in members:
            add_member(tar, name, data)
    return path / "bad.tar"


def replace_record(**values):
    def change(members):
        members[2][1] = json.dumps({**json.loads(members[2][1]), **values}).encode()

    return change


def swap_image(members):
    members[1][1] = members[1][1][:-1] + bytes([members[1][1][-1] ^ 1])


CHANGES = {
    "image changed": swap_image,
    "answer missing": replace_record(answers=[]),
    "answers no list": replace_record(answers={"a": 1}),
    "scores wrong": replace_record(answers=[{"scores": [0.5, 0.9, 0.1]}]),
    "kind unknown": replace_record(kind="logits"),
    "kind junk": replace_record(kind=["scores"]),
    "kind label, answers scores": replace_record(kind="label"),
    "kind scores, answers labels": replace_record(answers=[{"label": "a"}]),
    "label unknown": replace_record(kind="label", answers=[{"label": "d"}]),
    "classes fewer": replace_record(classes=["a", "b"]),
    "record no json": lambda m: m[2].__setitem__(1, b"{"),
    "record before image": lambda m: m.insert(1, m.pop(2)),
    "other schema": lambda m: m[0].__setitem__(1, b'{"schema": "x"}'),
    "foreign member": lambda m: m.append(["../../etc/passwd", b"root"]),
    "nothing": lambda m: m.clear(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_set_is_refused(tmp_path: Path, change):
    with pytest.raises(RefusedInput) as caught:
        list(read_transfer_set(tampered(tmp_path, change)))
    assert caught.value.exit_code == 65


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes):
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        info = tarfile.TarInfo("a" * 64 + ".jpg")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(RefusedInput):
        list(read_transfer_set(tmp_path / "t.tar"))


@pytest.mark.parametrize("size", ["-512", "-1536", "-99999999", "99999999999", "1e9", "x"])
def test_sizes_that_lie_are_refused_and_nothing_is_read_for_ever(tmp_path: Path, size: str):
    jpeg = item(1).jpeg
    with tarfile.open(tmp_path / "t.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("manifest.json", f"{sha256_hex(jpeg)}.jpg"):
            info = tarfile.TarInfo(name)
            info.size, info.pax_headers = len(jpeg), {"size": size}
            tar.addfile(info, io.BytesIO(jpeg))
    with pytest.raises(RefusedInput):
        list(read_transfer_set(tmp_path / "t.tar"))


def test_only_regular_files_are_opened(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.tar")
    for name in ("pipe.tar", ".", "missing.tar"):
        with pytest.raises(RefusedInput):
            list(read_transfer_set(tmp_path / name))


def test_a_member_larger_than_the_limit_is_refused_unread(tmp_path: Path):
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        add_member(tar, "a.jpg", bytes(101))
    with pytest.raises(RefusedInput, match="larger"):
        list(safe_members(tmp_path / "t.tar", 100))
    assert [name for name, _ in safe_members(tmp_path / "t.tar", 101)] == ["a.jpg"]


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 4000), flips=st.lists(st.tuples(st.integers(0, 4000), st.integers(1, 255)), max_size=4))
def test_damage_gives_refused_input_or_valid_items(tmp_path_factory, cut: int, flips: list):
    source = tmp_path_factory.mktemp("fuzz") / "t.tar"
    write_transfer_set(source, {}, [item(1)])
    data = bytearray(source.read_bytes())
    for place, mask in flips:
        data[place % len(data)] ^= mask
    source.write_bytes(bytes(data[: len(data) - cut]))
    try:
        found = list(read_transfer_set(source))
    except RefusedInput:
        return
    assert all(sha256_hex(i.jpeg) == i.sha256 for i in found)


def test_an_archive_of_images_without_answers_is_refused_before_it_fills_the_memory(tmp_path: Path):
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        for number in range(66):
            add_member(tar, f"{sha256_hex(b'%d' % number)}.jpg", b"%d" % number)
    with pytest.raises(RefusedInput, match="more than 64 images stand before their answers"):
        list(read_transfer_set(tmp_path / "t.tar"))
