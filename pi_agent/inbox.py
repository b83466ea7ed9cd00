"""A folder into which strangers drop model files, and a folder with one verdict for each: what systemd starts.

A verdict is `<sha256>.json`, signed and named after the bytes that were judged, so the same model is never judged
twice, and a verdict that somebody altered is none. The inbox is never written to. Whoever can write to it may be
hostile: links, devices and huge files are left alone, files that still change are looked at again, and a file that
kills the judge does not keep the others waiting.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pi_agent.contract.errors import Exit, MagpieError, RefusedInput, RefusedModel
from pi_agent.contract.files import open_regular
from pi_agent.contract.log import event, harmless
from pi_agent.runtime.inspect import MAX_MODEL_BYTES
from pi_agent.verdicts import MAX_ATTEMPTS, Verdicts
from pi_agent.verify import Case

SETTLE_SECONDS = 2.0
"""A file that nobody has touched for so long is whole. Found by looking twice: a Pi's clock may jump."""
PATIENCE = 15
"""So many looks in a row may find nothing but files that still change."""
Stamp = tuple[int, int, int, int, int]
log = logging.getLogger(__name__)


class VerdictMissing(MagpieError):
    """no verdict on {names}: an error of this program, see the log"""

    hint = "this is a bug in pi-agent: please report it with the lines above; all other files were judged"


class StillCopied(MagpieError):
    """no verdict yet on {names}: still being copied"""

    exit_code = Exit.TRY_TOMORROW
    hint = "run the same command again when the copy is done; all other files were judged"


@dataclass
class Report:
    """What one run did. Names are those of files in the inbox, without control characters.

    `judged`: file, sha256 and verdict of each; `known`: had a verdict already; `skipped`: name and reason;
    `unfinished`: still changing; `failed`: an error of this program.
    """

    judged: list[dict[str, Any]] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def problem(self) -> MagpieError | None:
        """What keeps the run from being complete."""
        if self.failed:
            return VerdictMissing(names=", ".join(self.failed))
        if self.unfinished:
            return StillCopied(names=", ".join(self.unfinished))
        return None


def judge_inbox(
    inbox: Path,
    verdicts: Path,
    case: Case,
    pause: Callable[[], None] = lambda: time.sleep(SETTLE_SECONDS),
    signing_key: Path | None = None,
) -> Report:
    """Judge every `*.onnx` in `inbox` that has no verdict yet, until a look finds nothing new.

    `pause` waits between two looks. `signing_key`: the judge's, default: one in `verdicts`. Raises `InboxBusy` (75),
    `StorageError` (74), `CannotCreate` (73), `ConfigError` (78) for a signing key that is none, and `RefusedInput` (65)
    where `verdicts` holds some about another claim.
    """
    with Verdicts(verdicts, case.claim_sha256, signing_key).only_one() as kept:
        run = _Run(inbox, kept, case)
        run.until_quiet(pause)
        return run.report


class _Run:
    """One run over an inbox; `_done` holds what needs no second look while its stamp stays the same."""

    def __init__(self, inbox: Path, verdicts: Verdicts, case: Case) -> None:
        self._inbox, self._verdicts, self._case = inbox, verdicts, case
        self._done: dict[str, Stamp] = {}
        self.report = Report()

    def until_quiet(self, pause: Callable[[], None]) -> None:
        """Look, judge what has not changed since the last look, look again."""
        before: dict[str, Stamp] = {}
        idle = 0
        while idle <= PATIENCE:
            waiting = {name: at for name, at in self._look().items() if self._done.get(name) != at}
            if not waiting:
                break
            settled = {name: at for name, at in waiting.items() if before.get(name) == at}
            for name, digest in self._in_turn(settled):
                self._judge(name, settled[name], digest)
            progress = any(self._done.get(name) == at for name, at in settled.items())
            idle = 0 if progress else idle + 1
            before = waiting
            if len(settled) < len(waiting):
                pause()
        else:
            self.report.unfinished = sorted(map(harmless, waiting))

    def _look(self) -> dict[str, Stamp]:
        """Name and stamp of every file that may be judged; the others are noted with the reason."""
        found: dict[str, Stamp] = {}
        for name in sorted(os.listdir(self._inbox)):
            if name.startswith(".") or not name.lower().endswith(".onnx"):
                continue  # so do uploaders call a file that is not whole yet
            with contextlib.suppress(FileNotFoundError):
                about = os.lstat(self._inbox / name)
                if reason := _unfit(about):
                    self._skip(name, reason)
                else:
                    found[name] = _stamp(about)
        return found

    def _skip(self, name: str, reason: str) -> None:
        if self.report.skipped.get(harmless(name)) != reason:
            log.warning(event("skipped", file=name, reason=reason))
        self.report.skipped[harmless(name)] = reason

    def _in_turn(self, settled: dict[str, Stamp]) -> list[tuple[str, str]]:
        """Name and SHA-256 of those without a verdict; what has killed a run before comes last."""
        found = []
        for name, at in settled.items():
            try:
                digest = self._sha256(name, at)
            except RefusedInput as exc:
                self._done[name] = at
                self._skip(name, str(exc.fields["reason"]))
            else:
                if digest:
                    found.append((self._verdicts.attempts(digest), name, digest))
        return [(name, digest) for _, name, digest in sorted(found)]

    def _sha256(self, name: str, at: Stamp) -> str | None:
        """Of the file that was looked at; None if there is another one now. Raises `RefusedInput`."""
        found, left = hashlib.sha256(), MAX_MODEL_BYTES
        with open_regular(self._inbox / name) as stream:
            while left > 0 and (part := stream.read(1 << 20)):
                found.update(part)
                left -= len(part)
            return found.hexdigest() if _stamp(os.fstat(stream.fileno())) == at else None

    def _judge(self, name: str, at: Stamp, digest: str) -> None:
        """Write the verdict on one file, unless there is one or the file has changed under our hands."""
        if self._verdicts.has(digest):
            self._done[name] = at
            self.report.known.append(harmless(name))
            return
        try:
            with self._verdicts.attempt(digest):
                found = self._opinion(self._inbox / name, digest)
        except Exception as exc:
            if not self._unchanged(name, at):
                return  # taken away; if it comes back, the next look sees it
            if isinstance(exc, MagpieError | OSError):
                raise  # a full disk, a missing permission: not the file's fault
            log.exception(event("failed", file=name, sha256=digest))
            self._done[name] = at
            self.report.failed.append(harmless(name))
            return
        if not self._unchanged(name, at) or found["suspect_sha256"] != digest:
            return
        self._verdicts.keep(digest, {**found, "file": harmless(name)})
        self._done[name] = at
        self.report.skipped.pop(harmless(name), None)
        self.report.judged.append({"file": harmless(name), "sha256": digest, "verdict": found["verdict"]})
        log.info(event("judged", file=name, sha256=digest, verdict=found["verdict"]))

    def _opinion(self, path: Path, digest: str) -> dict[str, Any]:
        """The object of `verify --json`, or a refusal in the same form."""
        try:
            if self._verdicts.attempts(digest) > MAX_ATTEMPTS:
                reason = f"{MAX_ATTEMPTS} runs over it died"
                raise RefusedModel(path=path, reason=reason, hint="delete this verdict to have it tried again")
            return self._case.judge(path).as_dict()
        except RefusedModel as exc:
            found = {"verdict": "refused", "suspect_sha256": digest, "claim_sha256": self._case.claim_sha256}
            return {**found, **exc.as_dict()}

    def _unchanged(self, name: str, at: Stamp) -> bool:
        try:
            return _stamp(os.lstat(self._inbox / name)) == at
        except OSError:
            return False


def _unfit(about: os.stat_result) -> str:
    """Why a file is left alone: what its name, its owner or its size would do to us, whatever it contains."""
    if stat.S_ISLNK(about.st_mode):
        return "a symbolic link"
    if not stat.S_ISREG(about.st_mode):
        return "not a regular file"
    if about.st_nlink > 1:
        return "the file has several names (hard links)"
    if about.st_size > MAX_MODEL_BYTES:
        return f"larger than {MAX_MODEL_BYTES // 1024**2} MiB"
    return ""


def _stamp(about: os.stat_result) -> Stamp:
    """Changes with every write: the kernel sets the time of the last change, nobody can set it back."""
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns
