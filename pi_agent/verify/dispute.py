"""Two claims on one model, tested: each mark on both parties' models, and on the suspect. `ruling` decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pi_agent.contract.claim import parse_time
from pi_agent.contract.claim.document import COMMITMENT_SCHEMA
from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.signed import read_signed
from pi_agent.runtime.suspect import Suspect
from pi_agent.verify.case import Case, Terms, open_case
from pi_agent.verify.ruling import Ruling, Standing, decide
from pi_agent.verify.verdict import Verdict

NAMES = ("first", "second")
LEVEL = 1e-6
"""No party is held to less, whatever level it registered for itself."""


@dataclass(frozen=True)
class Party:
    """A claim and the model that it was made for. `published`: whether its commitment was brought."""

    name: str
    case: Case
    model: Path

    @property
    def published(self) -> bool:
        """Whether the judge brought its commitment."""
        return self.case.terms.commitment is not None

    def too_late_for(self, other: Party) -> bool:
        """Whether the other's published commitment is older, and this key had no beacon."""
        own, others = (parse_time(party.case.claim.committed_at) for party in (self, other))
        return other.published and own > others and not self.case.claim.key.beacon

    def as_dict(self) -> dict[str, Any]:
        """For the report."""
        claim = self.case.claim
        return {
            "claim_sha256": self.case.claim_sha256,
            "model_sha256": claim.model_sha256,
            "commitment": claim.commitment,
            "owner": claim.key.owner,
            "committed_at": claim.committed_at,
            "created": claim.created,
            "commitment_published": self.published,
            "beacon": claim.key.beacon,
        }


@dataclass(frozen=True)
class Trial:
    """`claim`: first or second; `model`: first, second or suspect."""

    claim: str
    model: str
    verdict: Verdict

    def as_dict(self) -> dict[str, Any]:
        """For the report."""
        full = self.verdict.as_dict()
        return {"claim": self.claim, "model": self.model} | {
            key: full[key] for key in ("verdict", "p_value", "p_floor", "alpha", "rules_tested", "hits", "queries")
        }


@dataclass(frozen=True)
class Dispute:
    """The outcome: two parties and four tests, six with a suspect, whose hash is empty where there is none."""

    parties: tuple[Party, Party]
    tests: tuple[Trial, ...]
    suspect_sha256: str

    def verdict(self, claim: str, model: str) -> str:
        """Owned, inconclusive, not-owned, or empty if there was no such test."""
        return next((t.verdict.verdict for t in self.tests if (t.claim, t.model) == (claim, model)), "")

    @cached_property
    def ruling(self) -> Ruling:
        """Who wins, and why."""
        standings = [
            Standing(
                a.name,
                self.verdict(a.name, b.name),
                self.verdict(a.name, "suspect"),
                a.published,
                a.too_late_for(b),
            )
            for a, b in (self.parties, self.parties[::-1])
        ]
        return decide(*standings)

    def as_dict(self) -> dict[str, Any]:
        """The keys of the command contract and more."""
        return {
            "winner": self.ruling.winner,
            "reason": self.ruling.reason,
            "tests": [test.as_dict() for test in self.tests],
            "claims": [party.as_dict() for party in self.parties],
            "suspect_sha256": self.suspect_sha256,
        }


def settle(
    claims: Sequence[Path],
    models: Sequence[Path],
    suspect: Path | None = None,
    terms: Terms | None = None,
    commitments: Sequence[Path] = (),
) -> Dispute:
    """Test both claims on both models and on the suspect. `terms.commitment` is not used: `commitments` are sorted out.

    Raises `RefusedInput` (65) for bad claims, commitments that belong to neither, a model that is not the one of its
    claim, and a claim whose mark is not in its own model; `RefusedModel` (65).
    """
    parties = _parties(claims, models, terms or Terms(), commitments)
    for party in parties:
        if Suspect(party.model).sha256 != party.case.claim.model_sha256:  # said before anything is run
            reason = f"it is not the model that the {party.name} claim ({party.case.where.name}) was made for"
            raise RefusedInput(path=party.model, reason=reason, hint="every --model follows its own --claim")
    one, other = parties
    tests = [_own(one), _own(other), _cross(one, other), _cross(other, one)]
    if suspect is not None:
        tests += [Trial(party.name, "suspect", party.case.judge(suspect)) for party in parties]
    return Dispute(parties, tuple(tests), tests[-1].verdict.suspect_sha256 if suspect else "")


def _own(party: Party) -> Trial:
    test = _cross(party, party)
    if test.verdict.verdict != "owned":
        p, alpha = test.verdict.evidence.p_value, test.verdict.alpha
        reason = f"its mark is not in its own model (p = {p:.3g}, and {alpha:g} is needed)"
        raise RefusedInput(path=party.case.where, reason=reason, hint="a claim must prove its own model first")
    return test


def _cross(party: Party, other: Party) -> Trial:
    test = Trial(party.name, other.name, party.case.judge(other.model))
    if test.verdict.suspect_sha256 != other.case.claim.model_sha256:
        raise RefusedInput(path=other.model, reason="the file has changed since it was looked at", hint="try again")
    return test


def _parties(
    claims: Sequence[Path], models: Sequence[Path], terms: Terms, commitments: Sequence[Path]
) -> tuple[Party, Party]:
    opened = [open_case(path, replace(terms, commitment=None)) for path in claims]
    if opened[0].claim.commitment == opened[1].claim.commitment:
        raise RefusedInput(path=claims[1], reason="both claims reveal the same key", hint="give two different claims")
    brought = _sorted_out(commitments, opened)
    cases = [
        open_case(path, replace(terms, alpha=_level(case, terms), commitment=brought.get(case.claim.commitment)))
        for path, case in zip(claims, opened, strict=True)
    ]
    one, other = (Party(*of) for of in zip(NAMES, cases, models, strict=True))
    return one, other


def _level(case: Case, terms: Terms) -> float:
    return min(case.claim.key.alpha, LEVEL) if terms.alpha is None else terms.alpha


def _sorted_out(commitments: Sequence[Path], cases: Sequence[Case]) -> dict[str, Path]:
    """By the commitment that each file publishes."""
    known = {case.claim.commitment for case in cases}
    found = {}
    for path in commitments:
        content, _ = read_signed(path, COMMITMENT_SCHEMA, "give the file that the owner published")
        if content.get("commitment") not in known:
            raise RefusedInput(path=path, reason="neither claim opens this commitment", hint="bring those of the two")
        found[str(content["commitment"])] = path
    return found
