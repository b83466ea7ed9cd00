"""From a key to the rules of a model: what is committed to, what lies beside the key file, what is bound when."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pi_agent.contract.claim import WatermarkKey, commitment_document, new_key, rules_needed, save_key
from pi_agent.contract.claim.document import COMMITMENT_SCHEMA
from pi_agent.contract.claim.p_value import DECISIONS
from pi_agent.contract.errors import CannotCreate, ConfigError, RefusedInput
from pi_agent.contract.files import atomic_write, read_limited, sha256_hex
from pi_agent.contract.signed import Signer, read_signed, write_signed
from training_host.watermarks.carriers import MAX_BYTES

COMMITMENT = "commitment.json"
"""In the model folder, where the embedding completed it."""


@dataclass(frozen=True)
class KeyFiles:
    """The key file, and what `keygen` puts beside it under the same name."""

    key: Path

    @property
    def commitment(self) -> Path:
        """The public half."""
        return self.key.with_name(f"{self.key.stem}.commitment.json")

    @property
    def carriers(self) -> Path:
        """The test pictures, where the commitment fixes them."""
        return self.key.with_name(f"{self.key.stem}.carriers.tar")

    def must_be_free(self) -> None:
        """Raises `CannotCreate` (73) where one of them exists: none is ever overwritten."""
        for path in (self.key, self.commitment, self.carriers):
            if os.path.lexists(path):
                hint = "a lost key is a lost claim: choose another name"
                raise CannotCreate(path=path, reason="a file is there already", hint=hint)


@dataclass(frozen=True)
class Terms:
    """What an owner decides before the key is drawn. `rules` None: as many as `rules_needed` says."""

    classes: tuple[str, ...]
    rules: int | None = None
    alpha: float = 1e-6
    decision: str = "holm"
    beacon: str = ""

    def check(self, with_carriers: bool) -> None:
        """Raises `ConfigError` (78) for what no key can be made of, before pictures are read."""
        if self.beacon and not with_carriers:
            raise ConfigError(
                path="--beacon",
                reason="a beacon needs --carriers: pictures that are chosen after it could be chosen to suit it",
                hint="give --carriers with a folder <class>/*.jpg, or leave the beacon out",
            )
        self.key("", "")

    def key(self, owner: str, carriers: str, seed: bytes | None = None, committed_at: str = "") -> WatermarkKey:
        """Draw a key for these terms. Raises `ConfigError` (78)."""
        try:
            tests = len(DECISIONS[self.decision])
            rules = self.rules or rules_needed(len(self.classes), self.alpha, tests=tests)
        except ValueError as exc:
            reason = f"{len(self.classes)} classes leave a rule no target to choose"
            raise ConfigError(path="--classes", reason=reason, hint="name at least four distinct classes") from exc
        try:
            return new_key(
                self.classes,
                rules,
                self.alpha,
                seed,
                decision=self.decision,
                owner=owner,
                carriers=carriers,
                beacon=self.beacon if carriers else "",
                committed_at=committed_at,
            )
        except ValueError as exc:
            hint = "name at least four distinct classes; see train-host watermark keygen --help"
            raise ConfigError(path="the key", reason=str(exc), hint=hint) from exc


def draw_key(terms: Terms, signer: Signer, carriers: bytes | None, seed: bytes | None = None) -> WatermarkKey:
    """A key that is committed now, to these packed carriers if there are any yet. Raises `ConfigError` (78).

    `seed`: only for a demo that shall be the same every time.
    """
    return terms.key(signer.public, sha256_hex(carriers) if carriers else "", seed, _now())


def save_key_files(files: KeyFiles, key: WatermarkKey, signer: Signer, carriers: bytes | None) -> None:
    """Write key, commitment and, if they are committed to, carriers: all of them or none.

    Raises `CannotCreate` (73) where one exists, `StorageError` (74).
    """
    files.must_be_free()
    try:
        if carriers:
            with atomic_write(files.carriers) as stream:
                stream.write(carriers)
        write_signed(files.commitment, commitment_document(key), signer)
        save_key(files.key, key, signer)
    except BaseException:
        for path in (files.carriers, files.commitment):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        raise


def committed_carriers(files: KeyFiles, key: WatermarkKey) -> bytes | None:
    """The packed carriers that a key was committed to; None where it was committed to none.

    Raises `ConfigError` (78) when they are not beside the key, or others are.
    """
    if not key.carriers:
        return None
    hint = "put the file that keygen wrote beside the key, under this name"
    try:
        data = read_limited(files.carriers, MAX_BYTES)
    except RefusedInput as exc:
        reason = f"the key was committed to these carriers: {exc.fields['reason']}"
        raise ConfigError(path=files.carriers, reason=reason, hint=hint) from exc
    if sha256_hex(data) != key.carriers:
        raise ConfigError(path=files.carriers, reason="not the carriers that the key was committed to", hint=hint)
    return data


def check_beacon(key: WatermarkKey, value: str | None) -> str:
    """The beacon's value, as it goes into the rules. Raises `ConfigError` (78) where promise and value do not fit."""
    value = (value or "").strip()
    if key.beacon and not value:
        reason = f"the key was committed to a beacon ({key.beacon}), and its value is missing"
        hint = "when it is public, look it up and give it: --beacon-value VALUE"
        raise ConfigError(path="--beacon-value", reason=reason, hint=hint)
    if value and not key.beacon:
        hint = "leave --beacon-value out, or make a key with keygen --carriers DIR --beacon TEXT"
        raise ConfigError(path="--beacon-value", reason="the key was committed without a beacon", hint=hint)
    return value


def bind(key: WatermarkKey, carriers: bytes, beacon_value: str = "") -> WatermarkKey:
    """The key that rules are drawn from: committed to its carriers, now or before, and with the beacon's value.

    Raises `ConfigError` (78).
    """
    try:
        return key.bound(sha256_hex(carriers), beacon_value, _now())
    except ValueError as exc:
        raise ConfigError(path="the key", reason=str(exc), hint="embed with the key as keygen wrote it") from exc


def complete_commitment(out: Path, key: WatermarkKey, signer: Signer) -> WatermarkKey:
    """Write the commitment of a key whose carriers were chosen just now into the model folder.

    A run that goes on after an interruption keeps the time of the file that may be public already: the key is returned
    with that time. Raises `StorageError` (74), `CannotCreate` (73).
    """
    path = out / COMMITMENT
    with contextlib.suppress(RefusedInput):
        found, by = read_signed(path, COMMITMENT_SCHEMA)
        earlier = replace(key, committed_at=str(found.get("committed_at")))
        if by == signer.public and found == commitment_document(earlier):
            return earlier
    write_signed(path, commitment_document(key), signer)
    return key


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
