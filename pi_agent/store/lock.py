"""One spender at a time: a lock that the kernel releases when its holder dies, however it dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from pi_agent.contract.errors import from_write_error
from pi_agent.errors import Busy


@contextlib.contextmanager
def spender_lock(path: Path) -> Iterator[None]:
    """Hold the right to spend queries. Raises `Busy` (75) when another process holds it, `StorageError` (74).

    The file names its holder's process for people to read; what counts is the kernel's lock, so a file that a killed
    process left behind stops nobody.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise from_write_error(exc, path) from exc
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise Busy(path=path.parent, pid=os.read(descriptor, 20).decode("ascii", "replace").strip() or "?") from exc
        with contextlib.suppress(OSError):  # a full disk: the lock holds without a name in it
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
