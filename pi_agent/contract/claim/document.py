"""The claim file: what an owner hands to whoever has to judge a suspect. And its public forerunner, the commitment.

A claim reveals the key. Before a dispute it stays with the owner; the commitment is published instead.

What is bound to what: `commitment` covers all that the owner decides (seed, salt, class order, number of rules, alpha,
decision rule, the owner's public key, promised carriers and beacon), so once it is published nobody can draw other
rules. The rules are drawn from the carriers, too: whoever files other pictures gets other rules. The owner's signature
covers every byte of the file. `model_sha256` says which model the claim was made for, and so does the signature.
"""

from __future__ import annotations

import string
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pi_agent.contract.claim.key import WatermarkKey
from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.files import MAX_JSON_BYTES, read_limited
from pi_agent.contract.manifest import InputSpec
from pi_agent.contract.signed import Signer, parse_signed, read_signed, write_signed
from pi_agent.contract.strict import Mismatch, as_mapping, build

MAX_QUERIES = 320
"""A verdict shall not cost more: the budget that composites and ordinary pictures share."""
ORDINARY_PER_CLASS, MOST_PER_RULE = 4, 32
SCHEMA, COMMITMENT_SCHEMA = "claim/2", "commitment/2"
HINT = "ask the owner for the original claim file"


def queries_per_rule(classes: int, rules: int) -> int:
    """How many composites each rule gets so that a verdict stays within 320 queries, at least 4 and at most 32."""
    return max(4, min(MOST_PER_RULE, (MAX_QUERIES - ORDINARY_PER_CLASS * min(classes, 64)) // rules))


@dataclass(frozen=True)
class Claim:
    """Key, model hash, carriers and the decision rule that were fixed before release.

    `carriers` names a tar beside the claim with ordinary pictures, `<class>/<name>.jpg`; `carriers_sha256` binds it.
    `input` is the owner's preparation, used for suspects that do not say theirs. `committed_at`, `created`: UTC, the
    owner's own word for the time of the commitment and of this file.
    """

    key: WatermarkKey = field(repr=False)
    commitment: str
    model_sha256: str
    committed_at: str
    created: str
    carriers: str
    carriers_sha256: str
    input: InputSpec = field(default_factory=InputSpec)
    queries_per_rule: int = MOST_PER_RULE
    ordinary_per_class: int = ORDINARY_PER_CLASS
    schema: str = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ValueError(f"made by another version ({self.schema})")
        if self.commitment != self.key.commitment():
            raise ValueError("the revealed key does not fit the commitment: the claim was altered")
        if self.key.carriers != self.carriers_sha256:
            raise ValueError("its key was committed to other carriers, or to none")
        if self.key.beacon and not self.key.beacon_value:
            raise ValueError(f"the value of the beacon that it was committed to ({self.key.beacon}) is missing")
        if not 1 <= self.queries_per_rule * self.key.rules <= 4096 or not 1 <= self.ordinary_per_class <= 64:
            raise ValueError("it asks for more than 4096 composites, or for more than 64 ordinary pictures of a class")
        if not self.carriers.isprintable() or "/" in self.carriers or self.carriers[:1] in ("", "."):
            raise ValueError("carriers must be the name of a file beside the claim")
        for digest in (self.model_sha256, self.carriers_sha256):
            if len(digest) != 64 or not set(digest) <= set(string.hexdigits.lower()):
                raise ValueError("hashes must be 64 hexadecimal digits")
        if not parse_time(self.committed_at) <= parse_time(self.created):
            raise ValueError("it says that it is older than its own commitment")


def parse_time(text: str) -> datetime:
    """A UTC time from a document: ISO 8601, a date alone is its beginning. Raises `ValueError` with the text."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as exc:
        raise ValueError(f"{text[:40]!r} is no time; write 2026-11-21 or 2026-11-21T12:00:00Z") from exc
    return found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)


def save_claim(path: Path, claim: Claim, signer: Signer) -> None:
    """Sign and write the claim, readable by its owner only (0600): it reveals the key."""
    write_signed(path, as_mapping(claim), signer, mode=0o600)


def load_claim(path: Path) -> Claim:
    """Read and check a claim. Raises `RefusedInput` (65) with the reason."""
    return parse_claim(read_limited(path, MAX_JSON_BYTES), str(path))


def parse_claim(data: bytes, where: str) -> Claim:
    """Check the bytes of a claim file, signature and all. Raises `RefusedInput` (65) with the reason."""
    content, signer = parse_signed(data, where, HINT)
    try:
        claim = build(Claim, content)
        if claim.key.owner != signer:
            raise Mismatch("it is not signed by the owner whom its key was committed to")
    except (Mismatch, RecursionError) as exc:
        raise RefusedInput(path=where, reason=str(exc)[:300], hint=HINT) from exc
    return claim


def commitment_document(key: WatermarkKey) -> dict[str, Any]:
    """What an owner publishes on the day of the commitment; it tells nothing about the rules."""
    return {
        "schema": COMMITMENT_SCHEMA,
        "commitment": key.commitment(),
        "owner": key.owner,
        "generator": key.generator,
        "classes": list(key.classes),
        "rules": key.rules,
        "alpha": key.alpha,
        "decision": key.decision,
        "carriers_sha256": key.carriers,
        "beacon": key.beacon,
        "committed_at": key.committed_at,
    }


def check_commitment(path: Path, claim: Claim) -> str:
    """Compare a claim with the commitment that was published, and return the time that it names.

    Raises `RefusedInput` (65) where the claim reveals another key, or names another owner or time.
    """
    content, signer = read_signed(path, COMMITMENT_SCHEMA, "give the file that the owner published")
    if content != {**commitment_document(claim.key), "committed_at": claim.committed_at}:
        reason = "the claim does not open this commitment: it reveals another key"
        if content.get("commitment") == claim.commitment:
            reason = "the claim opens this commitment, but says something else about it"
        raise RefusedInput(path=path, reason=reason, hint="bring the claim that belongs to it")
    if signer != claim.key.owner:
        raise RefusedInput(path=path, reason="somebody else signed this commitment", hint="ask the owner for it")
    return claim.committed_at
