"""The owner's secret key and the pseudo-random function that everything else is drawn from."""

from __future__ import annotations

import hmac
import json
import os
import secrets
from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pi_agent.contract.claim.composites import GEOMETRIES
from pi_agent.contract.errors import CannotCreate, ConfigError, RefusedInput
from pi_agent.contract.files import read_json, sha256_hex, write_json
from pi_agent.contract.strict import Mismatch, as_mapping, build

GENERATOR = "krc/1"
"""Version of the rule and composite generator; part of the commitment, so that nobody can change it afterwards."""

T = TypeVar("T")


@dataclass(frozen=True)
class WatermarkKey:
    """The secret: 32 bytes of seed (hexadecimal), the ordered class names and the number of rules.

    Class names are printable and free of slashes: they are folder names, and they are printed in reports.
    """

    seed: str = field(repr=False)
    classes: tuple[str, ...]
    rules: int
    alpha: float = 1e-6
    generator: str = GENERATOR
    schema: str = "watermark-key/1"

    def __post_init__(self) -> None:
        if len(self.seed) != 64 or any(c not in "0123456789abcdef" for c in self.seed):
            raise ValueError("seed must be 64 hexadecimal digits")
        if self.schema != "watermark-key/1" or self.generator != GENERATOR:
            raise ValueError(f"made by another version ({self.schema}, {self.generator})")
        if not 4 <= len(self.classes) <= 4096 or len(set(self.classes)) != len(self.classes):
            raise ValueError("at least four distinct classes are needed, or a rule has no target to choose")
        if not all(0 < len(name) <= 200 and name.isprintable() and "/" not in name for name in self.classes):
            raise ValueError("class names must be printable, without slashes and at most 200 characters long")
        most = min(64, len(GEOMETRIES) * len(self.classes) * (len(self.classes) - 1))
        if not 1 <= self.rules <= most:
            raise ValueError(f"between 1 and {most} rules for {len(self.classes)} classes")
        if not 0 < self.alpha < 1:
            raise ValueError("alpha lies between 0 and 1")

    def commitment(self) -> str:
        """SHA-256 over everything the key decides; publishing it first binds the owner without telling the rules."""
        return sha256_hex(json.dumps([self.generator, self.seed, self.classes, self.rules, self.alpha]).encode())

    def stream(self, purpose: str) -> KeyStream:
        """Independent random numbers for one purpose (HMAC-SHA256 in counter mode)."""
        return KeyStream(bytes.fromhex(self.seed), f"{self.generator}/{purpose}")


class KeyStream:
    """Random numbers that are the same on every machine and for every library version.

    numpy's generators may change their draws between versions; a claim must verify ten years from now.
    """

    def __init__(self, seed: bytes, purpose: str) -> None:
        self._seed, self._purpose, self._counter = seed, purpose.encode(), 0

    def below(self, bound: int) -> int:
        """A uniform integer in 0..bound-1 (`bound` at most 2**64), free of modulo bias."""
        limit = (1 << 64) - (1 << 64) % bound
        while True:
            message = self._purpose + b"/" + self._counter.to_bytes(8, "big")
            self._counter += 1
            value = int.from_bytes(hmac.digest(self._seed, message, "sha256")[:8], "big")
            if value < limit:
                return value % bound

    def choose(self, options: Sequence[T]) -> T:
        """One of `options`, uniformly."""
        return options[self.below(len(options))]

    def shuffle(self, items: MutableSequence[T]) -> None:
        """Fisher-Yates in place."""
        for i in range(len(items) - 1, 0, -1):
            j = self.below(i + 1)
            items[i], items[j] = items[j], items[i]


def new_key(classes: Sequence[str], rules: int, alpha: float = 1e-6, seed: bytes | None = None) -> WatermarkKey:
    """A fresh key from the system's randomness; `seed` (32 bytes) only for reproducible demos and tests."""
    return WatermarkKey((secrets.token_bytes(32) if seed is None else seed).hex(), tuple(classes), rules, alpha)


def save_key(path: Path, key: WatermarkKey) -> None:
    """Write the key readable by its owner only (0600). Raises `CannotCreate` (73) where a file already is.

    Whoever overwrites a key loses the proof for every model that was marked with it.
    """
    if os.path.lexists(path):
        raise CannotCreate(path=path, reason="it exists, and a key is never overwritten", hint="choose another name")
    write_json(path, as_mapping(key), mode=0o600)


def load_key(path: Path) -> WatermarkKey:
    """Read a key file. Raises `ConfigError` (78) when it is missing or damaged, or when others may read it."""
    try:
        data = read_json(path)
        if os.stat(path).st_mode & 0o077:
            raise ConfigError(path=path, reason="others may read this secret key", hint=f"run: chmod 600 {path}")
        return build(WatermarkKey, data)
    except Mismatch as exc:
        raise ConfigError(path=path, reason=str(exc), hint="make one with train-host watermark keygen") from exc
    except RefusedInput as exc:
        raise ConfigError(path=path, reason=exc.fields["reason"], hint=exc.advice) from exc
