"""The prepared pictures on disk: one file per query image, named by its hash, whole or absent."""

from __future__ import annotations

from pathlib import Path

from pi_agent.contract.errors import from_write_error
from pi_agent.contract.files import atomic_write, sha256_hex
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

    def get(self, sha256: str) -> QueryImage | None:
        """The picture, or None where it is missing or no longer has its hash (a worn SD card)."""
        try:
            data = self.path(sha256).read_bytes()
        except OSError:
            return None
        return QueryImage(data, sha256) if sha256_hex(data) == sha256 else None
