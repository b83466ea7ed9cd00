"""A folder of verdicts, one signed JSON file for each model that was judged, named after the model's SHA-256."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pi_agent.contract.errors import Exit, MagpieError, RefusedInput, from_write_error
from pi_agent.contract.files import MAX_JSON_BYTES, atomic_write, make_folder, read_limited
from pi_agent.contract.log import event
from pi_agent.contract.signed import Signer, parse_signed, write_signed
from pi_agent.signing import signer_at

MAX_ATTEMPTS = 3
"""So often a run may die over one file before that counts as its refusal."""
SCHEMA, KEY = "verify/1", ".judge.key"
log = logging.getLogger(__name__)


class InboxBusy(MagpieError):
    """another pi-agent is writing verdicts to {path}"""

    exit_code = Exit.TRY_TOMORROW
    hint = "it takes new files in as well before it ends; wait for it"


class Verdicts:
    """The verdicts on one claim. A run that dies over a file leaves a note of its attempt beside them.

    They are signed with the key in the file `signing_key`, by default one in the folder itself, made at its first use.
    """

    def __init__(self, folder: Path, claim_sha256: str, signing_key: Path | None = None) -> None:
        self._folder, self._claim_sha256 = folder, claim_sha256
        self._key = signing_key or folder / KEY
        self._signer: Signer | None = None

    @contextlib.contextmanager
    def only_one(self) -> Iterator[Verdicts]:
        """Make the folder, hold its lock, which the kernel releases however we die, and have the key at hand.

        Raises `InboxBusy` (75), `CannotCreate` (73), `StorageError` (74), `ConfigError` (78) for a key that is none.
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
            self._signer, made = signer_at(self._key)
            if made:
                log.info(event("new-signing-key", file=self._key, public=self._signer.public))
            yield self
        finally:
            os.close(descriptor)

    def has(self, digest: str) -> bool:
        """Whether there is our whole and unaltered verdict on a model; anything else is logged and counts as nothing.

        Raises `RefusedInput` (65) if it is about another claim.
        """
        path = self._path(digest)
        if not os.path.lexists(path):
            return False
        try:
            found, signer = parse_signed(read_limited(path, MAX_JSON_BYTES), str(path))
        except RefusedInput as exc:
            log.warning(event("verdict-not-counted", file=path.name, why=exc.fields["reason"]))
            return False
        if found.get("claim_sha256") != self._claim_sha256:
            hint = "give every claim a folder of its own for its verdicts"
            raise RefusedInput(path=path, reason="a verdict about another claim", hint=hint)
        if signer != self._own.public or found.get("schema") != SCHEMA or found.get("suspect_sha256") != digest:
            log.warning(
                event("verdict-not-counted", file=path.name, why="not our verdict on this model", signer=signer)
            )
            return False
        return True

    def keep(self, digest: str, verdict: dict[str, Any]) -> None:
        """Sign and write a verdict, whole or not at all. Raises `StorageError` (74), `CannotCreate` (73)."""
        judged_at = datetime.now(UTC).isoformat(timespec="seconds")
        write_signed(self._path(digest), {"schema": SCHEMA, **verdict, "judged_at": judged_at}, self._own)

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

    @property
    def _own(self) -> Signer:
        if self._signer is None:
            raise ValueError("verdicts are signed and counted inside `only_one`")
        return self._signer

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest}.json"

    def _note(self, digest: str) -> Path:
        return self._folder / f".{digest}.attempts"
