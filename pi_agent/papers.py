"""Signed documents as a third party looks at them: is every byte as it was signed, by whom, and what belongs together?

Claims, commitments, reports and the verdicts of an inbox. A claim's rules and its key are never part of what is said
here. Model files and carriers that are given beside them are hashed and not opened.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pi_agent.contract.claim import Claim, check_commitment, parse_claim
from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.files import MAX_JSON_BYTES, open_regular, read_limited, sha256_hex
from pi_agent.contract.log import harmless
from pi_agent.contract.signed import parse_signed

KINDS = {"claim/2": "claim", "commitment/2": "commitment", "verdict/1": "report", "verify/1": "verdict"}
HASHED = {".onnx": "model", ".tar": "carriers"}
"""What is told by its SHA-256 alone, by the end of its name."""
_FACTS = {
    "commitment": (
        "commitment",
        "owner",
        "committed_at",
        "rules",
        "alpha",
        "decision",
        "generator",
        "carriers_sha256",
        "beacon",
    ),
    "report": ("verdict", "p_value", "alpha", "judged_at", "source", "suspect"),
    "verdict": ("verdict", "p_value", "alpha", "judged_at", "file"),
}
_HASHES = ("suspect_sha256", "claim_sha256", "commitment", "owner")
HINT = "ask whoever signed it for the original"


@dataclass(frozen=True)
class Paper:
    """A file that is intact. `kind`: one of `KINDS`, `HASHED` or "document"; `signer`: a public key, empty for none."""

    path: Path
    kind: str
    sha256: str
    schema: str = ""
    signer: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    claim: Claim | None = field(default=None, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        signed = {"schema": self.schema, "signer": self.signer} if self.signer else {}
        return {"file": harmless(str(self.path)), "kind": self.kind, "sha256": self.sha256, **signed, **self.facts}


@dataclass(frozen=True)
class Bond:
    """Whether two of the files belong together, in words."""

    file: str
    other: str
    fits: bool
    said: str


def read_paper(path: Path, signers: Sequence[str] = ()) -> Paper:
    """Read one file. `signers`: public keys; if there are any, a document must be signed by one of them.

    Raises `RefusedInput` (65) with the reason.
    """
    if kind := HASHED.get(path.suffix.lower()):
        return Paper(path, kind, _sha256(path))
    data = read_limited(path, MAX_JSON_BYTES)
    content, signer = parse_signed(data, str(path), HINT)
    if signers and signer not in signers:
        raise RefusedInput(path=path, reason=f"somebody else signed it: {signer}", hint="ask for the right one")
    schema = harmless(str(content.get("schema")))[:100]
    kind = KINDS.get(schema, "document")
    if kind == "claim":
        claim = parse_claim(data, str(path))
        return Paper(path, kind, sha256_hex(data), schema, signer, _facts_of(claim), claim)
    if kind == "commitment" and content.get("owner") != signer:
        raise RefusedInput(path=path, reason="it is not signed by the owner whom it names", hint=HINT)
    facts = {name: content[name] for name in (*_FACTS.get(kind, ()), *_HASHES) if name in content}
    return Paper(path, kind, sha256_hex(data), schema, signer, {name: _plain(value) for name, value in facts.items()})


def bonds(papers: Sequence[Paper]) -> tuple[list[Bond], str]:
    """Which of the files belong together, and what is wrong about the others (or nothing).

    Where there is any commitment, each claim needs its own; where there is any claim, each verdict, and so on.
    """
    found: list[Bond] = []
    wrong: list[str] = []
    for one in papers:
        for kind, misfit in _PARTNERS.get(one.kind, {}).items():
            pairs = [_bond(one, other, misfit(one, other)) for other in papers if other.kind == kind]
            fitting = [bond for bond in pairs if bond.fits]
            found += fitting
            if not fitting and kind not in _BY_CHANCE.get(one.kind, ()):
                found += pairs
                wrong += [f"{bond.said} ({bond.other})" for bond in pairs]
    return found, "; ".join(wrong)


def _bond(one: Paper, other: Paper, reason: str) -> Bond:
    said = reason or _FITTING[one.kind, other.kind]
    return Bond(harmless(str(one.path)), harmless(str(other.path)), not reason, said)


def _opens(claim: Paper, commitment: Paper) -> str:
    assert claim.claim is not None
    try:
        check_commitment(commitment.path, claim.claim)
    except RefusedInput as exc:
        return str(exc.fields["reason"])
    return ""


def _same(name: str, of: str, reason: str) -> Callable[[Paper, Paper], str]:
    """Compares the fact `name` of the first with the fact `of` of the second, or with its SHA-256."""

    def misfit(one: Paper, other: Paper) -> str:
        expected = other.sha256 if of == "sha256" else other.facts.get(of)
        return "" if expected and one.facts.get(name) == expected else reason

    return misfit


_ABOUT_CLAIM = _same("claim_sha256", "sha256", "the verdict is about another claim")
_ABOUT_MODEL = _same("suspect_sha256", "sha256", "the verdict is about another suspect")
_PARTNERS: Mapping[str, Mapping[str, Callable[[Paper, Paper], str]]] = {
    "claim": {
        "commitment": _opens,
        "carriers": _same("carriers_sha256", "sha256", "the claim was filed with other carriers"),
        "model": _same("model_sha256", "sha256", "the claim was made for another model"),
    },
    "report": {
        "claim": _ABOUT_CLAIM,
        "commitment": _same("commitment", "commitment", "the verdict is about another commitment"),
        "model": _ABOUT_MODEL,
    },
    "verdict": {"claim": _ABOUT_CLAIM, "model": _ABOUT_MODEL},
}
_BY_CHANCE = {"claim": ("model",)}
"""A suspect beside a claim is usually not the model that the claim was made for."""
_FITTING = {
    ("claim", "commitment"): "the claim opens this commitment",
    ("claim", "carriers"): "the claim was filed with these carriers",
    ("claim", "model"): "the claim was made for this model",
    ("report", "claim"): "the verdict is about this claim",
    ("report", "commitment"): "the verdict is about this commitment",
    ("report", "model"): "the verdict is about this file",
    ("verdict", "claim"): "the verdict is about this claim",
    ("verdict", "model"): "the verdict is about this file",
}


def _sha256(path: Path) -> str:
    found = hashlib.sha256()
    with open_regular(path) as stream:
        while part := stream.read(1 << 20):
            found.update(part)
    return found.hexdigest()


def _facts_of(claim: Claim) -> dict[str, Any]:
    key = claim.key
    return {
        "commitment": claim.commitment,
        "owner": key.owner,
        "committed_at": claim.committed_at,
        "created": claim.created,
        "rules": key.rules,
        "classes": len(key.classes),
        "alpha": key.alpha,
        "decision": key.decision,
        "beacon": key.beacon,
        "model_sha256": claim.model_sha256,
        "carriers_sha256": claim.carriers_sha256,
    }


def _plain(value: Any) -> Any:
    """A value from a document that anybody may have signed: one line of printable text, a number or nothing."""
    if isinstance(value, str):
        return harmless(value[:300])
    return value if isinstance(value, bool | int | float) else None
