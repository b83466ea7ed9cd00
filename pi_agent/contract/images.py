"""The query image: JPEG bytes of a 300x300 RGB picture, made once, identified by their SHA-256 for ever."""

from __future__ import annotations

from dataclasses import dataclass

from pi_agent.contract.files import sha256_hex

SIDE = 300
JPEG_QUALITY = 95
MAX_QUERY_BYTES = 1024 * 1024
"""No 300x300 JPEG of ours comes near this; the server's body limit and the tar readers use the same figure."""


@dataclass(frozen=True)
class QueryImage:
    """Ready JPEG bytes and their identity (64 hexadecimal digits)."""

    jpeg: bytes
    sha256: str

    @classmethod
    def of(cls, jpeg: bytes) -> QueryImage:
        """Wrap bytes that `pi_agent.prepare` made or accepted."""
        return cls(jpeg, sha256_hex(jpeg))
