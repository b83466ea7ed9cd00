"""Test whether a suspect obeys the rules of a claim."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, islice, product
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from pi_agent.contract.claim import Claim, Evidence, Rule, compose, draw_rules, key_randomisation_test, parse_claim
from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.files import MAX_JSON_BYTES, read_limited, sha256_hex
from pi_agent.contract.images import MAX_QUERY_BYTES, SIDE
from pi_agent.contract.transfer_set import safe_members
from pi_agent.prepare import SUFFIXES, decode_picture, resize
from pi_agent.runtime.suspect import Suspect

MAX_CARRIER_BYTES = 64 * 1024 * 1024
MAX_PER_CLASS = 16
"""Pictures kept per class: 256 pairs are plenty for one rule, and a Pi has little memory."""
Pixels = npt.NDArray[np.uint8]
Encoded = tuple[str, str, Callable[[], bytes]]
"""A picture on disk: class, name for messages, how to read it."""


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

    def as_dict(self) -> dict[str, Any]:
        """The keys of the command contract; the key and its rules are not among them."""
        return {
            "verdict": self.verdict,
            "p_value": self.evidence.p_value,
            "p_floor": self.evidence.floor,
            "alpha": self.alpha,
            "rules": len(self.rules),
            "hits": self.evidence.hits,
            "queries": self.queries,
            "suspect_sha256": self.suspect_sha256,
            "claim_sha256": self.claim_sha256,
            "is_claimed_model": self.is_claimed_model,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True)
class Case:
    """A claim with its rules and its pictures, ready to judge any number of suspects."""

    claim: Claim
    claim_sha256: str
    rules: tuple[Rule, ...]
    pictures: Mapping[str, list[Pixels]]
    alpha: float

    def judge(self, suspect_path: Path) -> Verdict:
        """Inspect one untrusted ONNX file, run it in a limited child and count its hits. Raises `RefusedModel` (65)."""
        started = time.monotonic()
        suspect = Suspect(suspect_path)
        shown = composites(self.claim, self.rules, self.pictures)
        scores = suspect.scores(shown, len(self.claim.key.classes), self.claim.input)
        evidence = key_randomisation_test(self.rules, self.claim.key.classes, np.split(scores, len(self.rules)))
        return Verdict(
            evidence.verdict(self.alpha),
            evidence,
            self.rules,
            self.alpha,
            len(scores),
            suspect.sha256,
            self.claim_sha256,
            time.monotonic() - started,
            suspect.sha256 == self.claim.model_sha256,
        )


def open_case(claim_path: Path, carriers: Path | None = None, alpha: float | None = None) -> Case:
    """Read a claim and its pictures, or those in the judge's own folder `carriers`. Raises `RefusedInput` (65)."""
    claim_bytes = read_limited(claim_path, MAX_JSON_BYTES)
    claim = parse_claim(claim_bytes, str(claim_path))
    rules = draw_rules(claim.key)
    needed = {name for rule in rules for name in (rule.first, rule.second)}
    pictures = load_carriers(in_folder(carriers) if carriers else in_claim(claim, claim_path.parent), needed)
    return Case(claim, sha256_hex(claim_bytes), rules, pictures, claim.key.alpha if alpha is None else alpha)


def verify_file(
    suspect_path: Path, claim_path: Path, carriers: Path | None = None, alpha: float | None = None
) -> Verdict:
    """Judge an untrusted ONNX file. `carriers`: a folder `<class>/*.jpg` of the adjudicator's own ordinary pictures.

    Raises `RefusedModel` or `RefusedInput` (65).
    """
    started = time.monotonic()
    verdict = open_case(claim_path, carriers, alpha).judge(suspect_path)
    return replace(verdict, seconds=time.monotonic() - started)


def composites(claim: Claim, rules: tuple[Rule, ...], carriers: Mapping[str, list[Pixels]]) -> Iterator[Pixels]:
    """`queries_per_rule` composites for every rule in turn, each uint8 (300, 300, 3), made when they are asked for.

    Which carriers meet is drawn by the key, all pairs before any twice: nobody chooses pixels.
    """
    for number, rule in enumerate(rules):
        firsts, seconds = carriers[rule.first], carriers[rule.second]
        pairs = list(product(firsts, seconds))
        claim.key.stream(f"pairs/{number}").shuffle(pairs)
        for first, second in islice(cycle(pairs), claim.queries_per_rule):
            yield compose(first, second, rule.geometry)


def load_carriers(source: Iterable[Encoded], needed: Set[str]) -> dict[str, list[Pixels]]:
    """The first 16 pictures of every class in `needed`, decoded to uint8 (300, 300, 3). Raises `RefusedInput` (65)."""
    found: dict[str, list[Pixels]] = {name: [] for name in sorted(needed)}
    for class_name, where, read in source:
        if class_name in found and len(found[class_name]) < MAX_PER_CLASS:
            found[class_name].append(resize(decode_picture(read(), where), (SIDE, SIDE)))
    for name, pictures in found.items():
        if not pictures:
            hint = "give a folder with a sub-folder of pictures for every class of the claim"
            raise RefusedInput(path="carriers", reason=f"no picture of class {name!r}", hint=hint)
    return found


def in_claim(claim: Claim, folder: Path) -> Iterator[Encoded]:
    """The pictures that the owner filed with the claim, checked against its hash. Raises `RefusedInput` (65)."""
    path = folder / claim.carriers
    if sha256_hex(read_limited(path, MAX_CARRIER_BYTES)) != claim.carriers_sha256:
        hint = "ask the owner for the original"
        raise RefusedInput(path=path, reason="not the carriers that the claim names", hint=hint)
    for name, data in safe_members(path, MAX_QUERY_BYTES):
        yield PurePosixPath(name).parent.name, f"{path}: {name[:200]!r}", partial(bytes, data)


def in_folder(folder: Path) -> Iterator[Encoded]:
    """The adjudicator's own pictures, `<class>/*.jpg`, in the order of their names."""
    for path in sorted(folder.glob("*/*")):
        if path.suffix.lower() in SUFFIXES:
            yield path.parent.name, str(path), partial(read_limited, path, MAX_CARRIER_BYTES)
