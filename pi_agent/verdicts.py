"""A folder of verdicts, one JSON file for each model that was judged, named after the model's SHA-256."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pi_agent.contract.errors import Exit, MagpieError, RefusedInput, from_write_error
from pi_agent.contract.files import atomic_write, make_folder, read_json, read_limited, write_json

MAX_ATTEMPTS = 3
"""So often a run may die over one file before that counts as its refusal."""


class InboxBusy(MagpieError):
    """another pi-agent is writing verdicts to {path}"""

    exit_code = Exit.TRY_TOMORROW
    hint = "it takes new files in as well before it ends; wait for it"


class Verdicts:
    """The verdicts on one claim. A run that dies over a file leaves a note of its attempt beside them."""

    def __init__(self, folder: Path, claim_sha256: str) -> None:
        self._folder, self._claim_sha256 = folder, claim_sha256

    @contextlib.contextmanager
    def only_one(self) -> Iterator[Verdicts]:
        """Make the folder and hold its lock, which the kernel releases however we die.

        Raises `InboxBusy` (75), `CannotCreate` (73), `StorageError` (74).
        """
        make_folder(self._folder)
        try:
            descriptor = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise from_write_error(exc, self._folder) from exc
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise InboxBusy(path=self._folder) from exc
            yield self
        finally:
            os.close(descriptor)

    def has(self, digest: str) -> bool:
        """Whether there is a whole verdict on a model. Raises `RefusedInput` (65) if it is about another claim."""
        path = self._path(digest)
        if not path.exists():
            return False
        try:
            found = read_json(path)
        except RefusedInput:
            return False
        if found.get("claim_sha256") != self._claim_sha256:
            hint = "give every claim a folder of its own for its verdicts"
            raise RefusedInput(path=path, reason="a verdict about another claim", hint=hint)
        return True

    def keep(self, digest: str, verdict: dict[str, Any]) -> None:
        """Write a verdict, whole or not at all. Raises `StorageError` (74), `CannotCreate` (73)."""
        judged_at = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(self._path(digest), {"schema": "verify/1", **verdict, "judged_at": judged_at})

    def attempts(self, digest: str) -> int:
        """How many runs have begun with a model and did not live to say anything."""
        try:
            return int(read_limited(self._note(digest), 16))
        except (RefusedInput, ValueError):
            return 0

    @contextlib.contextmanager
    def attempt(self, digest: str) -> Iterator[None]:
        """Note the attempt for the length of the block; only a process that is killed leaves the note behind.

        Raises `StorageError` (74), `CannotCreate` (73).
        """
        with atomic_write(self._note(digest), 0o600) as stream:
            stream.write(b"%d" % (self.attempts(digest) + 1))
        try:
            yield
        finally:
            self._note(digest).unlink(missing_ok=True)

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest}.json"

    def _note(self, digest: str) -> Path:
        return self._folder / f".{digest}.attempts"
