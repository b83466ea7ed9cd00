"""Test whether a suspect obeys the rules of a claim."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from pi_agent.contract.claim import Claim, Evidence, Rule, compose, draw_rules, key_randomisation_test, load_claim
from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.files import read_limited, sha256_hex
from pi_agent.contract.images import MAX_QUERY_BYTES, SIDE
from pi_agent.contract.transfer_set import safe_members
from pi_agent.prepare import SUFFIXES, decode_picture, resize
from pi_agent.runtime.suspect import Suspect

MAX_CARRIER_BYTES = 64 * 1024 * 1024
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Verdict:
    """The outcome; `verdict` is owned, inconclusive or not-owned."""

    verdict: str
    evidence: Evidence
    rules: tuple[Rule, ...]
    alpha: float
    queries: int
    suspect_sha256: str
    claim_sha256: str
    seconds: float
    is_claimed_model: bool


def verify_file(
    suspect_path: Path, claim_path: Path, carriers: Path | None = None, alpha: float | None = None
) -> Verdict:
    """Judge an untrusted ONNX file. `carriers`: a folder `<class>/*.jpg` of the adjudicator's own ordinary pictures.

    Raises `RefusedModel` or `RefusedInput` (65).
    """
    started = time.monotonic()
    claim = load_claim(claim_path)
    suspect = Suspect(suspect_path)
    rules = draw_rules(claim.key)
    pictures = carriers_from_folder(carriers) if carriers else carriers_from_claim(claim, claim_path.parent)
    composites = make_composites(claim, rules, pictures)
    scores = suspect.scores(composites, len(claim.key.classes), claim.input)
    per_rule = np.split(scores, len(rules))
    evidence = key_randomisation_test(rules, claim.key.classes, per_rule)
    level = claim.key.alpha if alpha is None else alpha
    return Verdict(
        evidence.verdict(level),
        evidence,
        rules,
        level,
        len(composites),
        suspect.sha256,
        sha256_hex(claim_path.read_bytes()),
        time.monotonic() - started,
        suspect.sha256 == claim.model_sha256,
    )


def make_composites(claim: Claim, rules: tuple[Rule, ...], carriers: Mapping[str, list[Pixels]]) -> Pixels:
    """`queries_per_rule` composites for every rule in turn, uint8 (rules * queries, 300, 300, 3).

    Which carriers meet is drawn by the key, all pairs before any twice: nobody chooses pixels. Raises `RefusedInput`.
    """
    out = []
    for number, rule in enumerate(rules):
        sources = [carriers.get(name, []) for name in (rule.first, rule.second)]
        for name, found in zip((rule.first, rule.second), sources, strict=True):
            if not found:
                hint = "give a folder with a sub-folder of pictures for every class of the claim"
                raise RefusedInput(path="carriers", reason=f"no picture of class {name!r}", hint=hint)
        pairs = [(i, j) for i in range(len(sources[0])) for j in range(len(sources[1]))]
        claim.key.stream(f"pairs/{number}").shuffle(pairs)
        for n in range(claim.queries_per_rule):
            i, j = pairs[n % len(pairs)]
            out.append(compose(sources[0][i], sources[1][j], rule.geometry))
    return np.stack(out)


def carriers_from_claim(claim: Claim, folder: Path) -> dict[str, list[Pixels]]:
    """The pictures that the owner filed with the claim, checked against its hash. Raises `RefusedInput` (65)."""
    path = folder / claim.carriers
    if sha256_hex(read_limited(path, MAX_CARRIER_BYTES)) != claim.carriers_sha256:
        raise RefusedInput(
            path=path, reason="not the carriers that the claim names", hint="ask the owner for the original"
        )
    found: dict[str, list[Pixels]] = {}
    for name, data in safe_members(path, MAX_QUERY_BYTES):
        found.setdefault(PurePosixPath(name).parent.name, []).append(_carrier(data, name))
    return found


def carriers_from_folder(folder: Path) -> dict[str, list[Pixels]]:
    """The adjudicator's own pictures, `<class>/*.jpg`. Raises `RefusedInput` (65)."""
    found: dict[str, list[Pixels]] = {}
    for path in sorted(folder.glob("*/*")):
        if path.suffix.lower() in SUFFIXES and len(found.get(path.parent.name, [])) < 64:
            found.setdefault(path.parent.name, []).append(_carrier(read_limited(path, MAX_CARRIER_BYTES), str(path)))
    return found


def _carrier(data: bytes, where: str) -> Pixels:
    return resize(decode_picture(data, where), (SIDE, SIDE))
