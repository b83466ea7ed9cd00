"""The exception tree both programs share: the docstring is the message, the class carries exit code and hint.

The exit codes are part of the command contract; systemd units and scripts rely on them.
"""

from __future__ import annotations

import errno
from enum import IntEnum
from typing import Any, ClassVar


class Exit(IntEnum):
    """Exit codes of `pi-agent` and `train-host`."""

    OK = 0
    BUG = 1
    USAGE = 2
    NEGATIVE = 10
    INCONCLUSIVE = 11
    REFUSED_INPUT = 65
    UNREACHABLE = 69
    CANNOT_CREATE = 73
    STORAGE = 74
    TRY_TOMORROW = 75
    NOT_AUTHORISED = 77
    CONFIGURATION = 78
    INTERRUPTED = 130


class MagpieError(Exception):
    """{reason}"""

    exit_code: ClassVar[Exit] = Exit.BUG
    hint: ClassVar[str] = ""

    def __init__(self, *, hint: str | None = None, **fields: Any) -> None:
        self.fields = fields
        self.advice = self.hint if hint is None else hint
        super().__init__((self.__doc__ or "").strip().format(**fields))

    @property
    def kind(self) -> str:
        """Stable name for `--json` consumers: the class name."""
        return type(self).__name__

    def as_dict(self) -> dict[str, Any]:
        """The object that goes to stderr under `--json`."""
        return {
            "error": {"kind": self.kind, "message": str(self), "hint": self.advice, "exit": int(self.exit_code)},
        }


class RefusedInput(MagpieError):
    """{path}: refused: {reason}"""

    exit_code = Exit.REFUSED_INPUT
    hint = "check that it is the right file and that it was copied whole"


class RefusedImage(RefusedInput):
    """{path}: image refused: {reason}"""

    hint = "send a JPEG, PNG, WebP, BMP or TIFF still picture"


class RefusedModel(RefusedInput):
    """{path}: model refused: {reason}"""

    hint = "the file was not run; ask for a plain ONNX export with its weights inside"


class NothingToDo(RefusedInput):
    """{path}: {reason}"""


class StorageError(MagpieError):
    """cannot write {path}: {reason}"""

    exit_code = Exit.STORAGE
    hint = "free some disk space and run the same command again; nothing that was settled is lost"


class CannotCreate(MagpieError):
    """cannot create {path}: {reason}"""

    exit_code = Exit.CANNOT_CREATE
    hint = "choose another folder or fix its permissions"


class ConfigError(MagpieError):
    """{path}: {reason}"""

    exit_code = Exit.CONFIGURATION


BROKEN_DISK = "the disk or SD card fails: copy what is on it to another one; nothing that was settled is lost"
"""The hint where freeing space would not help."""

_CANNOT_CREATE_ERRNOS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}


def from_os_error(exc: OSError, path: object = None) -> MagpieError:
    """Map an `OSError` to the documented exit codes: 73 where permissions forbid it, 74 for the disk itself."""
    where = path or exc.filename or "a file"
    reason = exc.strerror or str(exc)
    if exc.errno in _CANNOT_CREATE_ERRNOS:
        return CannotCreate(path=where, reason=reason)
    if exc.errno == errno.ENOENT:
        return RefusedInput(path=where, reason="no such file or folder", hint="check the path")
    return StorageError(path=where, reason=reason, hint=BROKEN_DISK if exc.errno == errno.EIO else None)


def from_write_error(exc: OSError, path: object) -> MagpieError:
    """As `from_os_error`, where something was to be written: a folder that is not there is 73."""
    if exc.errno == errno.ENOENT:
        return CannotCreate(path=path, reason="its folder does not exist")
    return from_os_error(exc, path)
