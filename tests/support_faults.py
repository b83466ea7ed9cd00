"""Disks that fail on command: the n-th write of a process fails, be it SQLite's or Python's own.

SQLite writes through a VFS; here a copy of the default one stands in front of it and counts. Python's own writes go
through a few functions of `os`, which are wrapped for the length of the block. Both share one count, so that "the n-th
write fails, for n = 1, 2, 3 ..." visits every write of a command.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import errno
import io
import os
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_int64, c_void_p
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FULL = frozenset({"write", "create", "grow"})
"""What a full disk refuses. It still reads, syncs, shortens and deletes."""
BROKEN = FULL | {"sync", "truncate", "delete", "rename"}
"""What a worn card may refuse besides."""
READING = frozenset({"read"})

_SQLITE_FULL, _CANTOPEN = 13, 14
_IOERR = {"read": 266, "write": 778, "sync": 1034, "truncate": 1546, "delete": 2570, "grow": 4874}
_OPEN_CREATE = 0x4


@dataclass
class Fault:
    """The `at`-th of the `operations` fails (0: none), and all after it where it is `lasting`.

    `torn`: a failing write stores its first half, as a disk does that fills up in the middle.
    """

    at: int = 0
    operations: frozenset[str] = BROKEN
    error: int = errno.EIO
    lasting: bool = False
    torn: bool = False
    log: list[str] = field(default_factory=list)
    note: Callable[[str], None] = lambda line: None
    count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def strikes(self, operation: str, what: str) -> bool:
        """Count one operation and say whether it is to fail."""
        if operation not in self.operations:
            return False
        with self._lock:
            self.count += 1
            struck = self.at > 0 and (self.count == self.at or (self.lasting and self.count > self.at))
            line = f"{self.count} {operation} {what}{' FAILED' if struck else ''}"
            self.log.append(line)
            self.note(line)
            return struck

    def check(self, operation: str, path: object) -> None:
        """Raise the error where this operation is to fail."""
        if self.strikes(operation, _kind(path)):
            raise OSError(self.error, os.strerror(self.error), str(path))

    def code(self, operation: str) -> int:
        """What the unix VFS returns for such a failure."""
        if operation == "write" and self.error == errno.ENOSPC:
            return _SQLITE_FULL
        return _IOERR.get(operation, _CANTOPEN)


def _kind(path: object) -> str:
    name = os.path.basename(os.fsdecode(path)) if isinstance(path, str | bytes | Path) else ""
    return name if name.isascii() and " " not in name and name else "file"


# -- SQLite ------------------------------------------------------------------------------------------------------------

_METHODS = (
    *("Close", "Read", "Write", "Truncate", "Sync", "FileSize", "Lock", "Unlock", "CheckReservedLock"),
    *("FileControl", "SectorSize", "DeviceCharacteristics"),
    *("ShmMap", "ShmLock", "ShmBarrier", "ShmUnmap", "Fetch", "Unfetch"),
)
_CALLS = (
    *("Open", "Delete", "Access", "FullPathname", "DlOpen", "DlError", "DlSym", "DlClose", "Randomness", "Sleep"),
    *("CurrentTime", "GetLastError", "CurrentTimeInt64", "SetSystemCall", "GetSystemCall", "NextSystemCall"),
)


class _IoMethods(ctypes.Structure):
    _fields_ = [("version", c_int), *((name, c_void_p) for name in _METHODS)]


class _File(ctypes.Structure):
    _fields_ = [("methods", POINTER(_IoMethods))]


class _Vfs(ctypes.Structure):
    _fields_ = [
        *(("version", c_int), ("file_size", c_int), ("longest_path", c_int)),
        *(("next", c_void_p), ("name", c_char_p), ("data", c_void_p)),
        *((name, c_void_p) for name in _CALLS),
    ]


_Read = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_Write = _Read
_Truncate = CFUNCTYPE(c_int, c_void_p, c_int64)
_Sync = CFUNCTYPE(c_int, c_void_p, c_int)
_ShmMap = CFUNCTYPE(c_int, c_void_p, c_int, c_int, c_int, POINTER(c_void_p))
_Open = CFUNCTYPE(c_int, c_void_p, c_void_p, POINTER(_File), c_int, POINTER(c_int))  # SQLite keeps the name's address
_Delete = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int)

_KEEP: list[object] = []
"""What SQLite holds pointers to: never freed, for nobody knows how long a connection lives."""


def sqlite_library() -> ctypes.CDLL | None:
    """The very SQLite that Python's `sqlite3` is linked to, or None where it hides its functions."""
    import _sqlite3

    for name in (getattr(_sqlite3, "__file__", None), None, "libsqlite3.so.0"):
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(name)
            library.sqlite3_vfs_find.restype = POINTER(_Vfs)
            library.sqlite3_sourceid.restype = c_char_p
            ((ours,),) = sqlite3.connect(":memory:").execute("SELECT sqlite_source_id()").fetchall()
            if library.sqlite3_sourceid().decode() == ours:
                return library
    return None


class _Shim:
    """A copy of the default VFS that asks `fault` before every operation."""

    def __init__(self, below: _Vfs, fault: Fault) -> None:
        self.fault, self._patched, self._kinds = fault, {}, {}
        self.vfs = _Vfs()
        ctypes.memmove(ctypes.byref(self.vfs), ctypes.byref(below), ctypes.sizeof(_Vfs))
        self.vfs.name, self.vfs.next = b"failing", None
        self._open, self._delete = _Open(below.Open), _Delete(below.Delete)
        self._set(self.vfs, "Open", _Open(self.open))
        self._set(self.vfs, "Delete", _Delete(self.delete))
        _KEEP.append(self)

    @staticmethod
    def _set(table: ctypes.Structure, name: str, function: Any) -> None:
        _KEEP.append(function)
        setattr(table, name, ctypes.cast(function, c_void_p).value)

    def open(self, vfs: int, name: int | None, file: Any, flags: int, out: Any) -> int:
        path = ctypes.string_at(name) if name else None
        kind = _kind(path) if path else "temporary"
        new = bool(flags & _OPEN_CREATE) and not (path and os.path.exists(path))
        if new and self.fault.strikes("create", kind):
            file.contents.methods = POINTER(_IoMethods)()
            return _CANTOPEN
        result: int = self._open(vfs, name, file, flags, out)
        if file.contents.methods:
            self._kinds[ctypes.addressof(file.contents)] = kind
            file.contents.methods = ctypes.pointer(self._methods(file.contents.methods))
        return result

    def delete(self, vfs: int, name: int, sync_folder: int) -> int:
        path = ctypes.string_at(name)
        if os.path.exists(path) and self.fault.strikes("delete", _kind(path)):
            return self.fault.code("delete")
        return int(self._delete(vfs, name, sync_folder))

    def _methods(self, below: Any) -> _IoMethods:
        address = ctypes.addressof(below.contents)
        if address not in self._patched:
            self._patched[address] = self._patch(below.contents)
        table: _IoMethods = self._patched[address]
        return table

    def _patch(self, below: _IoMethods) -> _IoMethods:
        table = _IoMethods()
        size = ctypes.sizeof(c_void_p) * (1 + {1: 12, 2: 16}.get(below.version, 18))
        ctypes.memmove(ctypes.byref(table), ctypes.byref(below), size)
        fault, kinds = self.fault, self._kinds
        real_read, real_write, real_cut = _Read(below.Read), _Write(below.Write), _Truncate(below.Truncate)
        real_sync, real_map = _Sync(below.Sync), _ShmMap(below.ShmMap) if table.ShmMap else None

        def read(file: int, data: int, amount: int, offset: int) -> int:
            if fault.strikes("read", kinds.get(file, "file")):
                return fault.code("read")
            return int(real_read(file, data, amount, offset))

        def write(file: int, data: int, amount: int, offset: int) -> int:
            if fault.strikes("write", kinds.get(file, "file")):
                if fault.torn:
                    real_write(file, data, amount // 2, offset)
                return fault.code("write")
            return int(real_write(file, data, amount, offset))

        def truncate(file: int, size: int) -> int:
            failed = fault.strikes("truncate", kinds.get(file, "file"))
            return fault.code("truncate") if failed else int(real_cut(file, size))

        def sync(file: int, flags: int) -> int:
            failed = fault.strikes("sync", kinds.get(file, "file"))
            return fault.code("sync") if failed else int(real_sync(file, flags))

        def shm_map(file: int, region: int, size: int, extend: int, out: Any) -> int:
            if extend and fault.strikes("grow", kinds.get(file, "file") + "-shm"):
                out[0] = None
                return fault.code("grow")
            return int(real_map(file, region, size, extend, out)) if real_map else 1

        for name, kind, function in (
            *(("Read", _Read, read), ("Write", _Write, write), ("Truncate", _Truncate, truncate)),
            *(("Sync", _Sync, sync), *([("ShmMap", _ShmMap, shm_map)] if real_map else [])),
        ):
            self._set(table, name, kind(function))
        return table


@contextlib.contextmanager
def failing_sqlite(fault: Fault) -> Iterator[Fault]:
    """Every database that is opened in this block writes through `fault`. Needs `sqlite_library()`."""
    library = sqlite_library()
    assert library is not None
    below = library.sqlite3_vfs_find(None).contents
    shim = _Shim(below, fault)
    assert library.sqlite3_vfs_register(ctypes.byref(shim.vfs), 1) == 0
    try:
        yield fault
    finally:
        library.sqlite3_vfs_unregister(ctypes.byref(shim.vfs))
        library.sqlite3_vfs_register(ctypes.byref(below), 1)


# -- Python's own files ------------------------------------------------------------------------------------------------


class _FailingFile(io.FileIO):
    """An unbuffered file whose writes may fail."""

    fault: Fault

    def write(self, data: Any, /) -> int:
        if self.fault.strikes("write", "file"):
            if self.fault.torn:
                super().write(memoryview(data).cast("B")[: memoryview(data).nbytes // 2])
            raise OSError(self.fault.error, os.strerror(self.fault.error))
        return super().write(data)


@contextlib.contextmanager
def failing_files(fault: Fault) -> Iterator[Fault]:
    """Every file that Python writes, creates, syncs, renames or deletes in this block goes through `fault`."""
    real = {name: getattr(os, name) for name in ("open", "fdopen", "mkdir", "fsync", "replace", "rename", "unlink")}
    real_open = builtins.open

    def wrapped(stream: Any, descriptor: Any, mode: str, *rest: Any, **options: Any) -> Any:
        raw = _FailingFile(descriptor, mode.replace("b", "").replace("t", ""), options.pop("closefd", True))
        raw.fault = fault
        buffered = io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, options.get("encoding") or "utf-8")

    def open_any(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if not set(mode) & set("wax") or "+" in mode or str(file).startswith(("/dev/", "/proc/")):
            return real_open(file, mode, *rest, **options)
        if not isinstance(file, int) and not os.path.exists(file):
            fault.check("create", file)
        return wrapped(None, file, mode, *rest, **options)

    def os_open(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if flags & os.O_CREAT and not os.path.exists(path):
            fault.check("create", path)
        return int(real["open"](path, flags, *rest, **options))

    def fdopen(descriptor: int, mode: str = "r", *rest: Any, **options: Any) -> Any:
        return open_any(descriptor, mode, *rest, **options)

    def checked(operation: str, name: str) -> Callable[..., Any]:
        def call(path: Any, *rest: Any, **options: Any) -> Any:
            if name != "mkdir" or not os.path.exists(path):
                fault.check(operation, path)
            return real[name](path, *rest, **options)

        return call

    changed = {
        "open": os_open,
        "fdopen": fdopen,
        "mkdir": checked("create", "mkdir"),
        "fsync": checked("sync", "fsync"),
    }
    changed |= {"replace": checked("rename", "replace"), "rename": checked("rename", "rename")}
    changed |= {"unlink": checked("delete", "unlink")}
    try:
        for name, function in changed.items():
            setattr(os, name, function)
        builtins.open = io.open = open_any
        yield fault
    finally:
        for name, function in real.items():
            setattr(os, name, function)
        builtins.open = io.open = real_open


def remains(folder: Path) -> list[str]:
    """Files of `atomic_write` and of `tempfile` that a failure left behind."""
    prefix = (".", tempfile.gettempprefix())
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.name.startswith(prefix))
