"""Files that are either whole or absent: atomic writes, hashes, guarded reads."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from pi_agent.contract.errors import RefusedInput, from_write_error

MAX_JSON_BYTES = 8 * 1024 * 1024


@contextlib.contextmanager
def atomic_write(path: Path, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """Open a binary file that appears under `path`, whole and durable, only when the block ends well.

    Raises `StorageError` (74) or `CannotCreate` (73); a failed write leaves nothing behind.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as exc:
        raise from_write_error(exc, path) from exc
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, mode)
        os.replace(name, path)
        sync_folder(path.parent)
    except OSError as exc:
        raise from_write_error(exc, path) from exc
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_filesystem(folder: Path) -> None:
    """Make everything on the file system that holds `folder` durable: one wait for many files. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:  # Python has no name for it
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> Path:
    """Create an output folder and what is above it. Raises `CannotCreate` (73), `StorageError` (74)."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise from_write_error(exc, folder) from exc
    return folder


def write_json(path: Path, data: dict[str, Any], mode: int = 0o644) -> None:
    """Write `data` atomically, indented, keys in the given order."""
    with atomic_write(path, mode) as stream:
        stream.write((json.dumps(data, indent=2) + "\n").encode())


@contextlib.contextmanager
def open_regular(path: Path, *, follow_links: bool = False) -> Iterator[IO[bytes]]:
    """Open an ordinary file for reading, and by default no final symbolic link.

    Raises `RefusedInput` (65) for anything else: an adversary may hand us a FIFO or a device.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow_links else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except OSError as exc:
        reason = "a symbolic link" if exc.errno == errno.ELOOP else exc.strerror or "cannot be opened"
        raise RefusedInput(path=path, reason=reason, hint="give the path of an ordinary file") from exc
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # before `fdopen`, which has its own mind about folders
        os.close(descriptor)
        raise RefusedInput(path=path, reason="not a regular file", hint="give the path of an ordinary file")
    with os.fdopen(descriptor, "rb") as stream:
        yield stream


def read_limited(path: Path, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes, not following a final symbolic link.

    Raises `RefusedInput` (65) for anything else.
    """
    with open_regular(path) as stream:
        try:
            data = stream.read(limit + 1)
        except OSError as exc:
            reason = f"it cannot be read ({exc.strerror or exc})"
            raise RefusedInput(
                path=path, reason=reason, hint="give the path of an ordinary file on a sound disk"
            ) from exc
    if len(data) > limit:
        raise RefusedInput(path=path, reason=f"larger than {limit // 1024} KiB", hint="")
    return data


def read_json(path: Path, limit: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """Read a JSON object from a file that may come from anybody. Raises `RefusedInput` (65)."""
    return parse_json(read_limited(path, limit), str(path))


def parse_json(data: bytes, where: str) -> dict[str, Any]:
    """Parse one JSON object; NaN, infinities, deep nesting and non-objects are refused with `RefusedInput` (65)."""

    def no_constants(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    try:
        value = json.loads(data, parse_constant=no_constants)
    except (ValueError, RecursionError) as exc:
        raise RefusedInput(path=where, reason=f"not valid JSON ({exc})") from exc
    if not isinstance(value, dict):
        raise RefusedInput(path=where, reason="a JSON object is expected")
    return value


def sha256_hex(data: bytes) -> str:
    """SHA-256 of `data` in lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()
