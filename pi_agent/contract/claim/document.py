"""The claim file: what an owner hands to whoever has to judge a suspect.

It reveals the key. Before a dispute it stays with the owner; only its commitment may be published.
"""

from __future__ import annotations

import string
from dataclasses import dataclass, field
from pathlib import Path

from pi_agent.contract.claim.key import WatermarkKey
from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.files import read_json, write_json
from pi_agent.contract.manifest import InputSpec
from pi_agent.contract.strict import Mismatch, as_mapping, build

QUERIES_PER_RULE = 32


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
        if Path(self.carriers).name != self.carriers or self.carriers.startswith("."):
            raise ValueError("carriers must be the name of a file beside the claim")
        for digest in (self.model_sha256, self.carriers_sha256):
            if len(digest) != 64 or not set(digest) <= set(string.hexdigits.lower()):
                raise ValueError("hashes must be 64 hexadecimal digits")


def save_claim(path: Path, claim: Claim) -> None:
    """Write the claim readable by its owner only (0600): it reveals the key."""
    write_json(path, as_mapping(claim), mode=0o600)


def load_claim(path: Path) -> Claim:
    """Read and check a claim. Raises `RefusedInput` (65) with the reason."""
    try:
        return build(Claim, read_json(path))
    except Mismatch as exc:
        raise RefusedInput(path=path, reason=str(exc), hint="ask the owner for the original claim file") from exc
