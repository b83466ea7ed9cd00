"""The outcome of a test, and what it rests on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pi_agent.contract.claim import Alignment, Evidence, Rule


@dataclass(frozen=True)
class Ground:
    """One thing that the p-value rests on. `solid`: whether somebody besides the owner vouches for it."""

    what: str
    how: str
    solid: bool


@dataclass(frozen=True)
class Verdict:
    """The outcome; `verdict` is owned, inconclusive or not-owned.

    `preparation`: how pictures were prepared, where it was not as the claim says. `queries`: all that were answered,
    `ordinary` of them show ordinary pictures. `source`: file, oracle or answers. `means[i]`: the mean score of every
    class on the composites of rule i; empty where none was answered. `suspect`: the file's name, or the oracle.
    `unanswered`: questions that the oracle refused for ever.
    """

    verdict: str
    evidence: Evidence
    alignment: Alignment
    rules: tuple[Rule, ...]
    alpha: float
    queries: int
    ordinary: int
    source: str
    suspect_sha256: str
    claim_sha256: str
    commitment: str
    owner: str
    grounds: tuple[Ground, ...]
    seconds: float
    is_claimed_model: bool
    preparation: str = ""
    means: tuple[tuple[float, ...], ...] = ()
    suspect: str = ""
    unanswered: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The keys of the command contract and more; the key and its rules are not among them."""
        return {
            "verdict": self.verdict,
            "p_value": self.evidence.p_value,
            "p_floor": self.evidence.floor,
            "alpha": self.alpha,
            "decision": self.evidence.decision,
            "channels": [asdict(channel) for channel in self.evidence.channels],
            "rules": len(self.rules),
            "rules_tested": sum(self.evidence.tested),
            "hits": self.evidence.hits,
            "queries": self.queries,
            "ordinary": self.ordinary,
            "unanswered": self.unanswered,
            "source": self.source,
            "suspect": self.suspect,
            "classes_aligned": not self.alignment.expected,
            "classes_known": sum(self.alignment.known),
            "preparation": self.preparation,
            "suspect_sha256": self.suspect_sha256,
            "claim_sha256": self.claim_sha256,
            "commitment": self.commitment,
            "owner": self.owner,
            "is_claimed_model": self.is_claimed_model,
            "grounds": [asdict(ground) for ground in self.grounds],
            "seconds": round(self.seconds, 3),
        }
