"""The prepared pictures on disk: one file per query image, named by its hash, whole or absent."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from pi_agent.contract.errors import from_write_error
from pi_agent.contract.files import atomic_write, sha256_hex, sync_filesystem
from pi_agent.contract.images import QueryImage


class Pictures:
    """A folder `ab/abcd....jpg`. Content-addressed: writing twice is harmless, reading checks the hash."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, sha256: str) -> Path:
        """Where the picture with this hash is, or would be."""
        return self._folder / sha256[:2] / f"{sha256}.jpg"

    def put(self, image: QueryImage) -> None:
        """Store the bytes durably. Raises `StorageError` (74)."""
        path = self.path(image.sha256)
        if path.exists() and self.get(image.sha256) is not None:
            return
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise from_write_error(exc, path.parent) from exc
        with atomic_write(path, mode=0o600) as stream:
            stream.write(image.jpeg)

    def put_all(self, images: Iterable[QueryImage]) -> None:
        """Store a batch durably, in far fewer waits for the disk than with `put`. Raises `StorageError` (74).

        After a power cut in the middle some of them are there, whole, and the others are not.
        """
        waiting: dict[Path, str] = {}
        try:
            for image in images:
                path = self.path(image.sha256)
                if path not in waiting and not (path.exists() and self.get(image.sha256) is not None):
                    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    waiting[path] = _write(image.jpeg, path)
            if waiting:
                sync_filesystem(self._folder)  # waits once, where `fsync` of each file and folder waits 128 times
                for path, name in waiting.items():
                    os.replace(name, path)
                sync_filesystem(self._folder)
        except OSError as exc:
            raise from_write_error(exc, self._folder) from exc
        finally:
            for name in waiting.values():
                with contextlib.suppress(OSError):
                    os.unlink(name)

    def get(self, sha256: str) -> QueryImage | None:
        """The picture, or None where it is missing or no longer has its hash (a worn SD card)."""
        try:
            data = self.path(sha256).read_bytes()
        except OSError:
            return None
        return QueryImage(data, sha256) if sha256_hex(data) == sha256 else None


def _write(data: bytes, path: Path) -> str:
    """A file beside `path`, not yet synced; nothing is left behind when it cannot be written."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
    except OSError:
        os.unlink(name)
        raise
    return name
