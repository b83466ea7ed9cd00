"""Files are whole or absent; what is read is an ordinary file of bounded size."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from pi_agent.contract.errors import CannotCreate, RefusedInput, StorageError
from pi_agent.contract.files import atomic_write, parse_json, read_limited, write_json
from tests.support_faults import BROKEN, Fault, failing_files


def test_a_file_appears_only_when_the_block_ends_well(tmp_path: Path):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic_write(path) as stream:
        stream.write(b"new, but")
        raise RuntimeError
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["f"]
    with atomic_write(path, 0o600) as stream:
        stream.write(b"new")
    assert path.read_bytes() == b"new" and path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["f"]


def test_a_full_disk_leaves_the_old_file_and_no_remains(tmp_path: Path):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    code = (
        "import sys; from pathlib import Path; from pi_agent.contract.files import atomic_write\n"
        "from pi_agent.contract.errors import StorageError\n"
        "try:\n"
        "    with atomic_write(Path(sys.argv[1])) as s: s.write(b'x' * 100_000)\n"
        "except StorageError as exc: sys.exit(int(exc.exit_code))\n"
    )

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    done = subprocess.run([sys.executable, "-c", code, str(path)], preexec_fn=small_disk, check=False)
    assert done.returncode == 74
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_whichever_step_of_a_write_fails_the_file_is_whole(tmp_path: Path, error: int):
    path, failures = tmp_path / "f", []
    while len(failures) < 50:
        path.write_bytes(b"old")
        fault = Fault(len(failures) + 1, BROKEN - {"delete"}, error, torn=True)
        try:
            with failing_files(fault), atomic_write(path) as stream:
                stream.write(b"new" * 10_000)
                stream.write(b"end")
        except StorageError as exc:
            assert exc.exit_code == 74 and ("space" in exc.advice) == (error == errno.ENOSPC)
        else:
            break
        failures.append(fault.log[-1].split()[1])
        assert path.read_bytes() in (b"old", b"new" * 10_000 + b"end")
        assert os.listdir(tmp_path) == ["f"], "nothing half-written stays"
    assert failures == ["create", "write", "write", "sync", "rename", "sync"]
    assert path.read_bytes() == b"new" * 10_000 + b"end"


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotCreate):
        write_json(tmp_path / "file" / "x.json", {})


def test_links_folders_pipes_and_large_files_are_not_read(tmp_path: Path):
    (tmp_path / "big").write_bytes(b"x" * 101)
    (tmp_path / "link").symlink_to(tmp_path / "big")
    os.mkfifo(tmp_path / "pipe")
    for name in ("big", "link", "pipe", ".", "missing"):
        with pytest.raises(RefusedInput):
            read_limited(tmp_path / name, 100)
    assert read_limited(tmp_path / "big", 101) == b"x" * 101


@pytest.mark.parametrize("data", [b"", b"[]", b"3", b'{"a": NaN}', b'{"a": Infinity}', b"\xff", b"[" * 100_000])
def test_only_plain_json_objects_are_parsed(data: bytes):
    with pytest.raises(RefusedInput):
        parse_json(data, "x")
    assert parse_json(b'{"a": 1}', "x") == {"a": 1}
