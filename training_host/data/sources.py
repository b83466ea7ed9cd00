"""Where pictures come from: folders `<class>/*.jpg`, zips of such folders, with or without `train/` and `test/`."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from pi_agent.contract.errors import NothingToDo, RefusedInput
from pi_agent.contract.files import read_limited
from pi_agent.prepare import MAX_FILE_BYTES, SUFFIXES

TRAIN, HELD_OUT = "train", "held-out"
_HELD_OUT_PERCENT = 20


@dataclass(frozen=True)
class Picture:
    """One labelled picture, not read yet. `part` is `train` or `held-out`."""

    name: str
    label: str
    part: str
    read: Callable[[], bytes]


def find_pictures(path: Path) -> list[Picture]:
    """All labelled pictures of a data set, sorted by name.

    A set with `train/` and `test/` keeps that split; otherwise the hash of the file's name decides (80 : 20), so that
    the split stays the same on every machine and when pictures are added. Raises `NothingToDo` or `RefusedInput` (65).
    """
    if path.is_dir():
        found = list(_in_folder(path))
    elif path.suffix.lower() == ".zip" and path.is_file():
        found = list(_in_zip(path))
    else:
        raise RefusedInput(path=path, reason="neither a folder nor a .zip", hint="give <class>/*.jpg or a zip of that")
    if not found:
        raise NothingToDo(path=path, reason="no pictures in class folders", hint="the layout is <class>/<picture>.jpg")
    return sorted(found, key=lambda p: p.name)


def class_names(pictures: list[Picture]) -> tuple[str, ...]:
    """The labels in alphabetical order: the order of every score vector."""
    return tuple(sorted({p.label for p in pictures}))


def _in_folder(folder: Path) -> Iterator[Picture]:
    for path in folder.rglob("*"):
        picture = _picture(path.relative_to(folder).as_posix(), partial(read_limited, path, MAX_FILE_BYTES))
        if picture and path.is_file():
            yield picture


def _in_zip(path: Path) -> Iterator[Picture]:
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                picture = _picture(info.filename, partial(_read_member, path, info.filename))
                if picture and not info.is_dir():
                    yield picture
    except (zipfile.BadZipFile, NotImplementedError) as exc:
        raise RefusedInput(path=path, reason=f"not a readable zip ({exc})", hint="copy the file again") from exc


def _read_member(path: Path, name: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as stream:
            data = stream.read(MAX_FILE_BYTES + 1)  # what the header says of the size may be a lie: count
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as exc:
        # zipfile raises NotImplementedError for an unknown compression, RuntimeError for an encrypted member
        raise RefusedInput(path=path, reason=f"{name}: damaged or encrypted ({exc})") from exc
    if len(data) > MAX_FILE_BYTES:
        raise RefusedInput(path=path, reason=f"{name}: larger than {MAX_FILE_BYTES // 2**20} MiB")
    return data


def _picture(name: str, read: Callable[[], bytes]) -> Picture | None:
    parts = PurePosixPath(name).parts
    if len(parts) < 2 or PurePosixPath(name).suffix.lower() not in SUFFIXES or any(p.startswith(".") for p in parts):
        return None
    label = parts[-2]
    if "test" in parts[:-2]:
        part = HELD_OUT
    elif "train" in parts[:-2]:
        part = TRAIN
    else:
        digest = hashlib.sha256(f"{label}/{parts[-1]}".encode()).digest()
        part = HELD_OUT if int.from_bytes(digest[:4], "big") % 100 < _HELD_OUT_PERCENT else TRAIN
    return Picture(name, label, part, read)
