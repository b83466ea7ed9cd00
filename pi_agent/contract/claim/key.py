"""The owner's secret key and the pseudo-random function that everything else is drawn from."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from pi_agent.contract.claim.composites import GEOMETRIES
from pi_agent.contract.claim.p_value import DECISIONS
from pi_agent.contract.errors import CannotCreate, ConfigError, RefusedInput
from pi_agent.contract.files import read_json, sha256_hex, write_json
from pi_agent.contract.signed import Signer, canonical, is_hex, load_signer
from pi_agent.contract.strict import Mismatch, as_mapping, build

GENERATOR = "krc/2"
"""Version of the rule and composite generator; part of the commitment, so that nobody can change it afterwards."""
SCHEMA = "watermark-key/2"

T = TypeVar("T")


@dataclass(frozen=True)
class WatermarkKey:
    """The secret, and everything that decides what it means.

    `seed`, `salt`: 32 secret bytes each, hexadecimal; the salt keeps the commitment from being searched for the seed.
    `classes`: ordered, printable and free of slashes: they are folder names, and they are printed in reports.
    `decision`: the rule that decides, see `p_value`. `owner`: the public key that signs for the owner.
    `carriers`: SHA-256 of the pictures that suspects will be tested with; empty until they are chosen (`bound`).
    `beacon`: where public randomness will come from that does not exist when the owner commits, or empty; its value is
    `beacon_value`, the only thing here that is no part of the commitment.

    The rules are drawn from seed, carriers and beacon: whoever knows the seed can choose other pictures before the
    commitment, but then gets other rules; after it, nothing is left to choose. `committed_at`: UTC, the owner's word.
    """

    seed: str = field(repr=False)
    salt: str = field(repr=False)
    classes: tuple[str, ...]
    rules: int
    alpha: float = 1e-6
    decision: str = "holm"
    owner: str = ""
    carriers: str = ""
    beacon: str = ""
    beacon_value: str = ""
    committed_at: str = ""
    generator: str = GENERATOR
    schema: str = SCHEMA

    def __post_init__(self) -> None:
        if not is_hex(self.seed, 64) or not is_hex(self.salt, 64):
            raise ValueError("seed and salt must be 64 hexadecimal digits")
        if self.schema != SCHEMA or self.generator != GENERATOR:
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
        if self.decision not in DECISIONS:
            raise ValueError(f"the decision rule must be one of {', '.join(DECISIONS)}")
        if not all(text == "" or is_hex(text, 64) for text in (self.owner, self.carriers)):
            raise ValueError("owner and carriers must be 64 hexadecimal digits or empty")
        if not all(len(text) <= 500 and text.isprintable() for text in (self.beacon, self.beacon_value)):
            raise ValueError("the beacon must be printable text of at most 500 characters")
        if self.beacon_value and not self.beacon:
            raise ValueError("the key was committed without a beacon")
        if self.beacon and not self.carriers:
            raise ValueError("a beacon needs carriers that are fixed before it, or they could be chosen to suit it")

    def commitment(self) -> str:
        """SHA-256 over all that the owner decides; publishing it first binds the owner without telling the rules."""
        decided = [self.seed, self.salt, self.classes, self.rules, self.alpha, self.decision]
        return sha256_hex(
            canonical(["magpie commitment/2", self.generator, *decided, self.owner, self.carriers, self.beacon])
        )

    def bound(self, carriers: str = "", beacon_value: str = "", committed_at: str = "") -> WatermarkKey:
        """This key with what was still open. Carriers complete the commitment, at the time `committed_at`.

        Raises `ValueError` where it was committed to other carriers, or promised no beacon.
        """
        if self.carriers and carriers not in ("", self.carriers):
            raise ValueError("the key was committed to other carriers")
        at = committed_at if carriers and not self.carriers and committed_at else self.committed_at
        value = beacon_value or self.beacon_value
        return replace(self, carriers=self.carriers or carriers, beacon_value=value, committed_at=at)

    def stream(self, purpose: str) -> KeyStream:
        """Independent random numbers for one purpose (HMAC-SHA256 in counter mode).

        Raises `ValueError` while the value of a promised beacon is missing.
        """
        if self.beacon and not self.beacon_value:
            raise ValueError(f"the key was committed to a beacon ({self.beacon}), and its value is missing")
        bonds = canonical([self.generator, self.carriers, self.beacon_value])
        secret = hmac.digest(bytes.fromhex(self.seed), bonds, "sha256")
        return KeyStream(secret, f"{self.generator}/{purpose}")


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


def new_key(
    classes: Sequence[str],
    rules: int,
    alpha: float = 1e-6,
    seed: bytes | None = None,
    *,
    decision: str = "holm",
    owner: str = "",
    carriers: str = "",
    beacon: str = "",
    committed_at: str = "",
) -> WatermarkKey:
    """A fresh key from the system's randomness; `seed` (32 bytes) only for reproducible demos and tests.

    Raises `ValueError` for anything that is no key.
    """
    seed, salt = (secrets.token_bytes(32), secrets.token_bytes(32)) if seed is None else (seed, bytes(32))
    return WatermarkKey(
        seed.hex(),
        salt.hex(),
        tuple(classes),
        rules,
        alpha,
        decision,
        owner,
        carriers,
        beacon,
        committed_at=committed_at,
    )


def save_key(path: Path, key: WatermarkKey, signer: Signer) -> None:
    """Write the key with the owner's signing key, readable by its owner only (0600).

    Raises `CannotCreate` (73) where a file already is: whoever overwrites a key loses the proof for every model that
    was marked with it.
    """
    if path.is_symlink() or path.exists():
        raise CannotCreate(path=path, reason="it exists, and a key is never overwritten", hint="choose another name")
    write_json(path, {**as_mapping(key), "signing_secret": signer.secret}, mode=0o600)


def load_key(path: Path) -> WatermarkKey:
    """Read a key file. Raises `ConfigError` (78) when it is missing or damaged, or when others may read it."""
    signer = load_signer(path)
    try:
        data = read_json(path)
        data.pop("signing_secret")
        key = build(WatermarkKey, data)
        if key.owner != signer.public:
            raise Mismatch("its signing key is not its owner's")
        return key
    except Mismatch as exc:
        raise ConfigError(path=path, reason=str(exc), hint="make one with train-host watermark keygen") from exc
    except RefusedInput as exc:
        raise ConfigError(path=path, reason=exc.fields["reason"], hint=exc.advice) from exc
