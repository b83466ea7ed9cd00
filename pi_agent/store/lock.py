"""One spender at a time: a lock that the kernel releases when its holder dies, however it dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from pi_agent.errors import Busy


@contextlib.contextmanager
def spender_lock(path: Path) -> Iterator[None]:
    """Hold the right to spend queries. Raises `Busy` (75) when another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise Busy(path=path.parent) from exc
        yield
    finally:
        os.close(descriptor)
