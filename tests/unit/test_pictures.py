"""A batch of pictures reaches the disk whole and durable, or as much of it as fits."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pi_agent.contract.errors import StorageError
from pi_agent.contract.files import sync_filesystem
from pi_agent.contract.images import QueryImage
from pi_agent.store import pictures as pictures_module
from pi_agent.store.pictures import Pictures


def some(count: int, size: int = 2000) -> list[QueryImage]:
    return [QueryImage.of(bytes([n % 256]) * size + n.to_bytes(4, "big")) for n in range(count)]


def files(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file()]


def test_a_batch_is_stored_like_single_pictures(tmp_path: Path):
    one, all_ = Pictures(tmp_path / "one"), Pictures(tmp_path / "all")
    for image in some(70):
        one.put(image)
    all_.put_all(some(70))
    names = [sorted(str(p.relative_to(tmp_path / name)) for p in files(tmp_path / name)) for name in ("one", "all")]
    assert names[0] == names[1] and len(names[0]) == 70
    assert all(all_.get(image.sha256) == image for image in some(70))
    assert {p.stat().st_mode & 0o777 for p in files(tmp_path / "all")} == {0o600}


def test_the_same_picture_twice_in_a_batch_and_in_a_later_one_is_one_file(tmp_path: Path):
    pictures = Pictures(tmp_path)
    pictures.put_all(some(3) * 2)
    before = {p: p.stat().st_ino for p in files(tmp_path)}
    pictures.put_all(some(4))
    after = {p: p.stat().st_ino for p in files(tmp_path)}
    assert len(before) == 3 and len(after) == 4 and before.items() <= after.items()
    pictures.put_all([])


def test_a_damaged_picture_is_replaced(tmp_path: Path):
    pictures, image = Pictures(tmp_path), some(1)[0]
    pictures.put_all([image])
    pictures.path(image.sha256).write_bytes(b"worn")
    pictures.put_all([image])
    assert pictures.get(image.sha256) == image


def test_files_are_on_the_disk_before_they_get_their_names_and_the_names_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    steps: list[str] = []
    sync, replace = pictures_module.sync_filesystem, os.replace

    def noted_sync(folder: Path) -> None:
        sync(folder)
        steps.append("sync")

    def noted_replace(*names: str) -> None:
        replace(*names)
        steps.append("name")

    monkeypatch.setattr(pictures_module, "sync_filesystem", noted_sync)
    monkeypatch.setattr(os, "replace", noted_replace)
    Pictures(tmp_path).put_all(some(40))
    assert steps == ["sync", *["name"] * 40, "sync"]


def test_a_full_disk_leaves_nothing_half_behind(tmp_path: Path):
    code = (
        "import resource, sys; from pathlib import Path; from pi_agent.store.pictures import Pictures\n"
        "from pi_agent.contract.errors import StorageError; from tests.unit.test_pictures import some\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
        "try: Pictures(Path(sys.argv[1])).put_all([*some(5), *some(1, 4000)])\n"
        "except StorageError as exc: sys.exit(exc.exit_code)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == StorageError.exit_code == 74
    assert files(tmp_path) == []


@pytest.mark.parametrize("failing", [1, 2])
def test_a_disk_that_cannot_sync_is_an_error_and_leaves_no_half_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
):
    calls = []

    def sync(folder: Path) -> None:
        calls.append(folder)
        if len(calls) == failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(folder))

    monkeypatch.setattr(pictures_module, "sync_filesystem", sync)
    pictures = Pictures(tmp_path)
    with pytest.raises(StorageError):
        pictures.put_all(some(5))
    left = files(tmp_path)
    assert len(left) == (0 if failing == 1 else 5), "before the names nothing, after them whole pictures"
    assert all(pictures.get(path.stem) is not None for path in left)


def test_what_cannot_be_synced_says_why(tmp_path: Path):
    sync_filesystem(tmp_path)
    with pytest.raises(OSError):
        sync_filesystem(tmp_path / "missing")
