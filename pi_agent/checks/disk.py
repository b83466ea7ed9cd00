"""Is there room, and can the home folder really be written?"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from pi_agent.checks.base import Context, Finding, failed, not_checked, passed, warning
from pi_agent.contract.errors import CannotCreate, Exit, from_write_error

_LEAST, _LITTLE = 20_000_000, 200_000_000
_FEW_FILES = 1000
_FREE = "free some space: `journalctl --vacuum-size=50M` and `apt-get clean` are a start"


def check(context: Context) -> Finding:
    """Exit 74 for a full or failing disk, 73 where the folder may not be written."""
    folder = context.home.folder
    if not folder.is_dir():
        if folder.exists():
            return failed(f"{folder} is no folder", "choose another with --home", Exit.CANNOT_CREATE)
        return not_checked(f"there is no folder {folder} yet")
    room = os.statvfs(folder)
    free = room.f_bavail * room.f_frsize
    if room.f_flag & os.ST_RDONLY:
        advice = "a worn SD card ends like this: look at dmesg, copy the folder away, replace the card"
        return failed(f"{folder} is on a file system that is mounted read-only", advice, Exit.STORAGE)
    try:
        _write(folder)
    except OSError as exc:
        error = from_write_error(exc, folder)
        whose = "run it as the user whom the folder belongs to"
        advice = whose if isinstance(error, CannotCreate) else f"{_FREE}; on an I/O error look at dmesg"
        return failed(f"a test file in {folder} could not be written: {exc.strerror}", advice, error.exit_code)
    found = f"{free // 1_000_000} MB free, a test file was written and synced"
    if free < _LEAST:
        return failed(found, _FREE, Exit.STORAGE)
    if room.f_files and room.f_favail < _FEW_FILES:
        return warning(f"{found}, but room for {room.f_favail} files only", "delete old files: each picture is one")
    return warning(found, _FREE) if free < _LITTLE else passed(found)


def _write(folder: Path) -> None:
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor.") as stream:
        stream.write(os.urandom(4096))
        stream.flush()
        os.fsync(stream.fileno())
