"""Who is asking: API keys from a file, compared so that the time taken tells nothing about them."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pi_agent.contract.errors import ConfigError

ANONYMOUS = "anonymous"
"""The one client of a server without keys: everybody shares its quota."""
SHORT_KEY = 16
"""Keys of fewer characters can be guessed; they are accepted with a warning in the log."""
_MAX_FILE_BYTES = 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_KEY = re.compile(r"[\x21-\x7e]{1,4096}")


@dataclass(frozen=True)
class KeyRing:
    """Client names beside the SHA-256 of their keys; a client may hold several keys while it changes them.

    An empty ring is an open door: everybody is the client `anonymous`.
    """

    entries: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)
    short: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        """True where no key is asked for."""
        return not self.entries

    @property
    def clients(self) -> tuple[str, ...]:
        """The names of all clients, each once."""
        return tuple(dict.fromkeys(name for name, _ in self.entries)) or (ANONYMOUS,)

    def identify(self, bearer: str | None) -> str | None:
        """The client who holds the key `bearer`, or None. Always compares with every key, in constant time."""
        if self.is_open:
            return ANONYMOUS
        # Digests have one length, so not even the length of a key can be measured.
        offered, found = _digest(bearer or ""), None
        for name, digest in self.entries:
            if hmac.compare_digest(offered, digest):
                found = name
        return found


def load_keys(path: Path) -> KeyRing:
    """Read lines `name:key`; blank lines and lines that start with `#` say nothing.

    Raises `ConfigError` (78) for a file that others may read or whose lines are wrong; its text never quotes a key.
    """
    entries, short = [], []
    seen: set[bytes] = set()
    for number, name, key in _lines(path):
        digest = _digest(key)
        if digest in seen:
            raise ConfigError(path=path, reason=f"line {number}: this key stands in the file twice")
        seen.add(digest)
        entries.append((name, digest))
        if len(key) < SHORT_KEY:
            short.append(name)
    if not entries:
        raise ConfigError(path=path, reason="no key in it", hint="one line `name:key` per client")
    return KeyRing(tuple(entries), tuple(short))


def _lines(path: Path) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(_read_secret(path).splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, _, key = (part.strip() for part in line.partition(":"))
        if not _NAME.fullmatch(name) or not _KEY.fullmatch(key):
            raise ConfigError(
                path=path,
                reason=f"line {number} is not `name:key`",
                hint="names: letters, digits, dot, dash and underscore; keys: no spaces",
            )
        yield number, name, key


def _read_secret(path: Path) -> str:
    """The text of a file that only its owner may read. Raises `ConfigError` (78)."""
    try:
        # Non-blocking, because a FIFO by this name would otherwise hold the server up for ever.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise ConfigError(path=path, reason="the API key file is not a regular file")
            if mode & 0o077:
                raise ConfigError(path=path, reason="others may read these secrets", hint=f"run: chmod 600 {path}")
            return stream.read(_MAX_FILE_BYTES).decode("ascii")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(path=path, reason=f"the API keys cannot be read ({exc})", hint="check --api-keys") from exc


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
