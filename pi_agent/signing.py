"""The judge's signing key: made where it is first needed, one for all who need it at the same time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from pi_agent.contract.errors import from_write_error
from pi_agent.contract.signed import Signer, load_signer, new_signer, save_signer


def signer_at(path: Path) -> tuple[Signer, bool]:
    """The signing key in the file `path`, and whether it was made just now (0600) because nothing was there.

    Raises `ConfigError` (78) for what is no key of ours or may be read by others, `CannotCreate` (73) and
    `StorageError` (74) where none can be made.
    """
    if os.path.lexists(path):
        return load_signer(path), False
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise from_write_error(exc, path) from exc
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # of two that start together, the second one takes the first one's key
        if os.path.lexists(path):
            return load_signer(path), False
        made = new_signer()
        save_signer(path, made)
        return made, True
    finally:
        os.close(folder)
