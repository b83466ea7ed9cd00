"""What a p-value rests on: it counts what chance can do, so somebody must say why there was nothing but chance.

A false accuser can look for a key, or for pictures, that happen to suit a suspect (Liu et al., USENIX Security 2024).
Each ground is one door that is shut, or not.
"""

from __future__ import annotations

from pathlib import Path

from pi_agent.contract.claim import Claim
from pi_agent.verify.verdict import Ground


def grounds_of(claim: Claim, carriers: Path | None, commitment: Path | None, suspect_since: str) -> tuple[Ground, ...]:
    """The grounds of a verdict on this claim, tested in this way."""
    return (_pictures(carriers), _key(claim), _commitment(claim, commitment), _time(claim, suspect_since))


def _pictures(carriers: Path | None) -> Ground:
    if carriers is not None:
        return Ground("pictures", "brought by the judge", True)
    return Ground("pictures", "the owner's, fixed in the commitment before the rules were drawn", True)


def _key(claim: Claim) -> Ground:
    if claim.key.beacon:
        said = f"drawn with public randomness that came after the commitment: {claim.key.beacon} = "
        return Ground("key", f"{said}{claim.key.beacon_value} (compare this value with its source)", True)
    return Ground("key", "the owner's own randomness: p does not count keys that were tried and thrown away", False)


def _commitment(claim: Claim, commitment: Path | None) -> Ground:
    if commitment is not None:
        return Ground("commitment", "the claim opens the commitment that was published", True)
    return Ground("commitment", "not compared with a published one (--commitment)", False)


def _time(claim: Claim, suspect_since: str) -> Ground:
    said = f"committed at {claim.committed_at}, filed at {claim.created}, by the owner's own word"
    if suspect_since:
        return Ground("time", f"{said}; the suspect is known since {suspect_since}", True)
    return Ground("time", f"{said}; not compared with the suspect's first appearance (--suspect-since)", False)
