"""Who touches a file? The kernel tells (inotify, by ctypes): any opening, reading, writing, making or removing."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

ACCESS, MODIFY, ATTRIB, OPEN = 0x1, 0x2, 0x4, 0x20
MOVED, CREATED, DELETED = 0xC0, 0x100, 0x200
EVENTS = ACCESS | MODIFY | ATTRIB | OPEN | MOVED | CREATED | DELETED
IS_FOLDER = 0x4000_0000
_HEAD = struct.Struct("iIII")


class Canary:
    """Watches folders, not what is below them, while the block lasts; then `touched` names what was touched in them.

    That a folder itself is opened and listed does not count: Python and pytest do that.
    """

    def __init__(self, *folders: Path) -> None:
        self._libc, self._folders = ctypes.CDLL(None, use_errno=True), folders
        self.touched: set[Path] = set()

    def __enter__(self) -> Canary:
        self._events = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._events < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._watched = {}
        for folder in self._folders:
            number = self._libc.inotify_add_watch(self._events, os.fsencode(folder), EVENTS)
            if number < 0:
                raise OSError(ctypes.get_errno(), "inotify_add_watch", str(folder))
            self._watched[number] = folder
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        try:
            while data := os.read(self._events, 1 << 16):
                self.touched.update(self._paths(data))
        except BlockingIOError:
            pass
        finally:
            os.close(self._events)

    def _paths(self, data: bytes) -> Iterable[Path]:
        position = 0
        while position < len(data):
            number, mask, _, length = _HEAD.unpack_from(data, position)
            position += _HEAD.size + length
            assert number in self._watched, "too many events to tell"
            name = os.fsdecode(data[position - length : position].rstrip(b"\0"))
            if name and not mask & IS_FOLDER:
                yield self._watched[number] / name
