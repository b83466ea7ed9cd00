"""Folders and zips become labelled pictures with a stable split."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pi_agent.contract.errors import NothingToDo, RefusedInput
from pi_agent.contract.manifest import InputSpec
from training_host.data.arrays import load_labelled
from training_host.data.sources import HELD_OUT, TRAIN, class_names, find_pictures
from training_host.jobs import read_parts


def picture(path: Path, colour: tuple[int, int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), colour).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(60):
        picture(tmp_path / "set" / "red" / f"{i}.jpg", (250, i, 0))
        picture(tmp_path / "set" / "blue" / f"{i}.png", (0, i, 250))
    return tmp_path / "set"


def test_a_folder_is_split_by_name_and_adding_pictures_moves_none(folder: Path):
    before = {p.name: p.part for p in find_pictures(folder)}
    share = sum(part == HELD_OUT for part in before.values()) / len(before)
    assert 0.08 < share < 0.35
    picture(folder / "red" / "late.jpg", (1, 2, 3))
    after = {p.name: p.part for p in find_pictures(folder)}
    assert {name: after[name] for name in before} == before


def test_a_zip_with_train_and_test_keeps_that_split(folder: Path, tmp_path: Path):
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w") as out:
        for i, path in enumerate(sorted(folder.rglob("*.jpg"))):
            out.write(path, f"{'test' if i % 3 == 0 else 'train'}/{path.parent.name}/{path.name}")
    pictures = find_pictures(archive)
    assert {p.part for p in pictures} == {TRAIN, HELD_OUT}
    assert sum(p.part == HELD_OUT for p in pictures) == 20
    assert Image.open(folder / "red" / "0.jpg").size == (40, 30)
    assert pictures[0].read()[:2] == b"\xff\xd8"


def test_hidden_files_other_types_and_loose_pictures_are_not_taken(folder: Path):
    (folder / "red" / "notes.txt").write_text("no")
    picture(folder / "loose.jpg", (0, 0, 0))
    picture(folder / ".trash" / "old.jpg", (0, 0, 0))
    assert class_names(find_pictures(folder)) == ("blue", "red")
    assert len(find_pictures(folder)) == 120


def test_pictures_are_decoded_as_queries_at_the_networks_size(folder: Path):
    pictures = [p for p in find_pictures(folder) if p.label == "red"][:4]
    data = load_labelled(pictures, ("blue", "red"), InputSpec(size=(64, 64)))
    assert data.images.shape == (4, 64, 64, 3) and data.images.dtype == np.uint8
    assert data.labels.tolist() == [1, 1, 1, 1]
    assert abs(int(data.images[0, 32, 32, 0]) - 250) < 8


def test_foreign_classes_are_refused_with_the_known_ones(folder: Path):
    with pytest.raises(RefusedInput, match="red"):
        load_labelled(find_pictures(folder), ("blue", "green"), InputSpec())


@pytest.mark.parametrize("name", ["missing", "empty", "broken.zip", "text.txt"])
def test_what_is_no_data_set_is_refused(name: str, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 not a zip")
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises((NothingToDo, RefusedInput)) as caught:
        find_pictures(tmp_path / name)
    assert caught.value.exit_code == 65 and caught.value.advice


def test_too_few_pictures_are_refused_before_any_training(tmp_path: Path):
    for i in range(5):
        picture(tmp_path / "a" / f"{i}.jpg", (9, 9, 9))
        picture(tmp_path / "b" / f"{i}.jpg", (99, 9, 9))
    with pytest.raises(RefusedInput, match="too few"):
        read_parts(tmp_path, InputSpec())


def test_a_damaged_picture_is_named(folder: Path):
    (folder / "red" / "0.jpg").write_bytes((folder / "red" / "0.jpg").read_bytes()[:200])
    with pytest.raises(RefusedInput, match=r"red/0\.jpg"):
        load_labelled(find_pictures(folder), ("blue", "red"), InputSpec())


def _one_picture_zip(folder: Path, out: Path) -> bytearray:
    """A zip with one stored picture: its bytes stand in it as they are."""
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.write(folder / "red" / "0.jpg", "red/0.jpg")
    return bytearray(out.read_bytes())


@pytest.mark.parametrize("damage", ["unsupported compression", "encrypted", "changed byte"])
def test_a_zip_member_that_cannot_be_read_is_refused_by_name(folder: Path, tmp_path: Path, damage: str):
    archive = tmp_path / "set.zip"
    data = _one_picture_zip(folder, archive)
    local, central = data.index(b"PK\x03\x04"), data.index(b"PK\x01\x02")
    if damage == "unsupported compression":
        data[local + 8], data[central + 10] = 97, 97
    elif damage == "encrypted":
        data[local + 6] |= 1
        data[central + 8] |= 1
    else:
        data[central - 5] ^= 0xFF
    archive.write_bytes(data)
    [picture] = find_pictures(archive)
    with pytest.raises(RefusedInput, match=r"red/0\.jpg") as caught:
        picture.read()
    assert caught.value.exit_code == 65
