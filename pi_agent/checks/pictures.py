"""Do the stored pictures still have their hashes? A worn SD card changes bytes in silence."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path

from pi_agent.checks.base import Context, Finding, failed, passed, warning
from pi_agent.contract.errors import Exit
from pi_agent.contract.files import sha256_hex

SAMPLE = 400
"""So many pictures are read, evenly spread: seconds on a Pi, and a failing card spoils more than one in a hundred."""
_STALE = 600.0


def check(context: Context) -> Finding:
    """Exit 74 for pictures that are missing or no longer what they were."""
    folder = context.home.images
    stored = {path.stem: path for path in sorted(folder.glob("??/*.jpg")) if not path.name.startswith(".")}
    wanted = _wanted(context)
    missing = [name for name in wanted if name not in stored]
    names = sorted(stored)
    sample = names[:: max(1, -(-len(names) // SAMPLE))]
    damaged = [name for name in sample if not _is(stored[name], name)]
    if missing or damaged:
        found = f"{len(missing)} of {len(wanted)} are missing, {len(damaged)} of {len(sample)} read are damaged"
        example = (damaged or missing)[0]
        advice = f"the first is {example}: add the same photos again; more of them: replace the SD card"
        return failed(found, advice, Exit.STORAGE)
    found = f"{len(stored)} stored, {len(sample)} read, all with their hashes"
    stale = _stale([context.home.folder, folder, *folder.glob("??")])
    if stale:
        advice = f"remove them: find {context.home.folder} -name '.*' -type f -mmin +10 -delete"
        return warning(f"{found}; {len(stale)} left-over temporary files, such as {stale[0]}", advice)
    return passed(found)


def _wanted(context: Context) -> list[str]:
    """The hashes that the database knows; none where it cannot be read, which is another check's business."""
    with contextlib.suppress(sqlite3.Error), context.database() as database:
        return [row[0] for row in database.execute("SELECT sha256 FROM image WHERE problem IS NULL")]
    return []


def _is(path: Path, sha256: str) -> bool:
    try:
        return sha256_hex(path.read_bytes()) == sha256
    except OSError:
        return False


def _stale(folders: list[Path]) -> list[Path]:
    """Files `.name.random` that a killed process left behind; younger ones may belong to one that is at work."""
    found = []
    for path in (p for folder in folders for p in folder.glob(".*")):
        with contextlib.suppress(OSError):
            if path.is_file() and path.stat().st_mtime < time.time() - _STALE:
                found.append(path)
    return sorted(found)
