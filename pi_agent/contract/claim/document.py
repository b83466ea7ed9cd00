"""The claim file: what an owner hands to whoever has to judge a suspect.

It reveals the key. Before a dispute it stays with the owner; only its commitment may be published.

What is bound to what: `commitment` covers all that the key decides (seed, class order, number of rules, alpha), so once
it is published nobody can draw other rules. `carriers_sha256` covers the pictures. `digest` covers every other byte of
meaning in the file against accidents: it is no signature, whoever alters a claim on purpose can renew it. Therefore the
time of the commitment counts, not that of the file, and a careful judge brings carriers of their own: an owner who
knows the rules could choose pictures that favour them.
"""

from __future__ import annotations

import json
import string
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pi_agent.contract.claim.key import WatermarkKey
from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.files import MAX_JSON_BYTES, parse_json, read_limited, sha256_hex, write_json
from pi_agent.contract.manifest import InputSpec
from pi_agent.contract.strict import Mismatch, as_mapping, build

QUERIES_PER_RULE = 32
HINT = "ask the owner for the original claim file"


@dataclass(frozen=True)
class Claim:
    """Key, model hash, carriers and the decision rule that were fixed before release.

    `carriers` names a tar beside the claim with ordinary pictures, `<class>/<name>.jpg`; `carriers_sha256` binds it.
    `input` is the owner's preparation, used for suspects that do not say theirs.
    """

    key: WatermarkKey = field(repr=False)
    commitment: str
    model_sha256: str
    created: str
    carriers: str
    carriers_sha256: str
    input: InputSpec = field(default_factory=InputSpec)
    queries_per_rule: int = QUERIES_PER_RULE
    decision: str = "rule-hits"
    schema: str = "claim/1"

    def __post_init__(self) -> None:
        if self.schema != "claim/1" or self.decision != "rule-hits":
            raise ValueError(f"made by another version ({self.schema}, {self.decision})")
        if self.commitment != self.key.commitment():
            raise ValueError("the revealed key does not fit the commitment: the claim was altered")
        if not 1 <= self.queries_per_rule <= 1024:
            raise ValueError("queries_per_rule must be 1 to 1024")
        if not self.carriers.isprintable() or "/" in self.carriers or self.carriers[:1] in ("", "."):
            raise ValueError("carriers must be the name of a file beside the claim")
        for digest in (self.model_sha256, self.carriers_sha256):
            if len(digest) != 64 or not set(digest) <= set(string.hexdigits.lower()):
                raise ValueError("hashes must be 64 hexadecimal digits")


def save_claim(path: Path, claim: Claim) -> None:
    """Write the claim with its digest, readable by its owner only (0600): it reveals the key."""
    data = as_mapping(claim)
    write_json(path, {**data, "digest": _digest(data)}, mode=0o600)


def load_claim(path: Path) -> Claim:
    """Read and check a claim. Raises `RefusedInput` (65) with the reason."""
    return parse_claim(read_limited(path, MAX_JSON_BYTES), str(path))


def parse_claim(data: bytes, where: str) -> Claim:
    """Check the bytes of a claim file. Raises `RefusedInput` (65): any accidental change to the content is noticed."""
    content = parse_json(data, where)
    try:
        if content.pop("digest", "") != _digest(content):
            raise Mismatch("its digest does not fit its content: it was altered or damaged")
        return build(Claim, content)
    except (Mismatch, RecursionError) as exc:
        raise RefusedInput(path=where, reason=str(exc)[:300], hint=HINT) from exc


def _digest(content: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON: sorted keys, no spaces, ASCII."""
    return sha256_hex(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())
