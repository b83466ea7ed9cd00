"""Signed JSON: claims, commitments and verdicts that nobody can alter unnoticed.

A document is a JSON object, indented by two spaces, whose last key is `signature`: the signer's public key and an
Ed25519 signature (RFC 8032) of the text without this key. What is signed are bytes, so every altered one is noticed,
even a space. A signature says that the holder of a key wrote this. Whose key that is must be known from elsewhere.

`cryptography` is loaded when the first signature is made or checked; all else in the contract is numpy and the
standard library.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pi_agent.contract.errors import CannotCreate, ConfigError, RefusedInput
from pi_agent.contract.files import MAX_JSON_BYTES, atomic_write, parse_json, read_json, read_limited, write_json

HEXADECIMAL = frozenset("0123456789abcdef")
SIGNING_KEY_SCHEMA = "signing-key/1"
_END = b"\n}\n"
_LAST_KEY = re.compile(
    rb',\n  "signature": \{\n    "key": "([0-9a-f]{64})",\n    "value": "([0-9a-f]{128})"\n  \}\n\}\n\Z'
)
_WHAT_IS_SIGNED = b"magpie signed document\n"
"""Stands before the signed bytes: a signature of ours means nothing in any other protocol that uses the same key."""


@dataclass(frozen=True)
class Signer:
    """A secret Ed25519 key, 64 hexadecimal digits."""

    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        if not is_hex(self.secret, 64):
            raise ValueError("a signing key is 64 hexadecimal digits")

    @property
    def public(self) -> str:
        """The public half, 64 hexadecimal digits: what others know the signer by."""
        return str(self._key().public_key().public_bytes_raw().hex())

    def document(self, content: dict[str, Any]) -> bytes:
        """The bytes of the signed document. `content` must name its `schema` and have no `signature` yet."""
        if not isinstance(content.get("schema"), str) or "signature" in content:
            raise ValueError("a document to be signed names its schema and is not signed yet")
        value = self._key().sign(_WHAT_IS_SIGNED + _spelled(content)).hex()
        return _spelled({**content, "signature": {"key": self.public, "value": value}})

    def _key(self) -> Any:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(self.secret))


def new_signer() -> Signer:
    """A fresh signing key from the system's randomness."""
    return Signer(os.urandom(32).hex())


def parse_signed(data: bytes, where: str, hint: str | None = None) -> tuple[dict[str, Any], str]:
    """The content of a signed document, without its signature, and the signer's public key.

    Raises `RefusedInput` (65) when a byte was altered.
    """
    content = parse_json(data, where)
    if content.pop("signature", None) is None:
        raise RefusedInput(path=where, reason="it is not signed", hint=hint)
    found = _LAST_KEY.search(data)
    if found is None:
        reason = "it was rewritten: its bytes are not those that were signed"
        raise RefusedInput(path=where, reason=reason, hint=hint)
    key, value = (group.decode() for group in found.groups())
    if not _is_signed_by(key, value, data[: found.start()] + _END):
        reason = "its signature does not fit its content: it was altered or damaged"
        raise RefusedInput(path=where, reason=reason, hint=hint)
    return content, key


def write_signed(path: Path, content: dict[str, Any], signer: Signer, mode: int = 0o644) -> None:
    """Sign and write atomically. Raises `StorageError` (74), `CannotCreate` (73)."""
    with atomic_write(path, mode) as stream:
        stream.write(signer.document(content))


def read_signed(path: Path, schema: str, hint: str | None = None) -> tuple[dict[str, Any], str]:
    """Read and check a signed document of one schema. Raises `RefusedInput` (65)."""
    content, key = parse_signed(read_limited(path, MAX_JSON_BYTES), str(path), hint)
    if content.get("schema") != schema:
        raise RefusedInput(path=path, reason=f"it is no {schema} but {content.get('schema')!r}", hint=hint)
    return content, key


def load_signer(path: Path) -> Signer:
    """The signing key in a file of ours: one made by `save_signer`, or an owner's key file.

    Raises `ConfigError` (78) when it is missing or damaged, or when others may read it.
    """
    try:
        data = read_json(path)
        if os.stat(path).st_mode & 0o077:
            raise ConfigError(path=path, reason="others may read this secret key", hint=f"run: chmod 600 {path}")
        return Signer(str(data.get("signing_secret")))
    except ValueError as exc:
        raise ConfigError(path=path, reason=str(exc), hint="give a key file that Magpie wrote") from exc
    except RefusedInput as exc:
        raise ConfigError(path=path, reason=exc.fields["reason"], hint=exc.advice) from exc


def save_signer(path: Path, signer: Signer) -> None:
    """Write a signing key, readable by its owner only (0600). Raises `CannotCreate` (73) where a file already is."""
    if os.path.lexists(path):
        raise CannotCreate(path=path, reason="it exists, and a key is never overwritten", hint="choose another name")
    write_json(path, {"schema": SIGNING_KEY_SCHEMA, "signing_secret": signer.secret}, mode=0o600)


def canonical(content: Any) -> bytes:
    """The one form of a JSON value that hashes are taken of: sorted keys, no spaces, ASCII."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def is_hex(text: str, digits: int) -> bool:
    """Whether `text` is exactly so many lower-case hexadecimal digits."""
    return len(text) == digits and set(text) <= HEXADECIMAL


def _spelled(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


def _is_signed_by(key: str, value: str, text: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
        public.verify(bytes.fromhex(value), _WHAT_IS_SIGNED + text)
    except (InvalidSignature, ValueError):
        return False
    return True
