"""A claim, opened and checked, ready to judge any number of suspects."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pi_agent.contract.claim import (
    Claim,
    Rule,
    align,
    as_scores,
    check_commitment,
    draw_rules,
    parse_claim,
    parse_time,
    weigh,
)
from pi_agent.contract.errors import RefusedInput, RefusedModel
from pi_agent.contract.files import MAX_JSON_BYTES, read_limited, sha256_hex
from pi_agent.contract.log import harmless
from pi_agent.runtime.suspect import Suspect
from pi_agent.verify.carriers import in_claim, in_folder, load_carriers
from pi_agent.verify.grounds import grounds_of
from pi_agent.verify.preparation import find_preparation
from pi_agent.verify.questions import Manner, Questionnaire
from pi_agent.verify.verdict import Verdict

MANY_CLASSES = 64
"""With more, only the sources of rules are shown as ordinary pictures: a verdict has 320 queries."""


@dataclass(frozen=True)
class Terms:
    """How a claim is tested. `carriers`: a folder `<class>/*.jpg` of the judge's own ordinary pictures.

    `alpha`: instead of the claim's; `commitment`: the file that the owner published; `suspect_since`: UTC, when the
    suspect is known to have existed.
    """

    carriers: Path | None = None
    alpha: float | None = None
    manner: Manner = field(default_factory=Manner)
    commitment: Path | None = None
    suspect_since: str = ""


@dataclass(frozen=True)
class Case:
    """An opened claim. `where`: its file."""

    claim: Claim
    claim_sha256: str
    where: Path
    terms: Terms

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """The rules that the key draws."""
        return draw_rules(self.claim.key)

    @property
    def alpha(self) -> float:
        """The level that decides."""
        return self.claim.key.alpha if self.terms.alpha is None else self.terms.alpha

    @cached_property
    def questionnaire(self) -> Questionnaire:
        """All questions, with the pictures that they are made of. Raises `RefusedInput` (65) for bad carriers."""
        own, classes = self.terms.carriers, self.claim.key.classes
        source = in_folder(own) if own else in_claim(self.claim, self.where.parent)
        sources = dict.fromkeys(name for rule in self.rules for name in (rule.first, rule.second))
        # Never those of the targets alone: what is asked must not depend on them.
        others = classes if len(classes) <= MANY_CLASSES else ()
        carriers = load_carriers(source, sources, others)
        return Questionnaire(self.claim, self.rules, carriers, self.terms.manner)

    def judge(self, path: Path) -> Verdict:
        """Inspect one untrusted ONNX file, run it in a limited child and weigh its answers.

        Raises `RefusedModel` (65), `RefusedInput` (65) for bad carriers.
        """
        started = time.monotonic()
        suspect = Suspect(path)
        with suspect.running() as run:
            asked = self.questionnaire  # decoded while the child starts
            spec, preparation = find_preparation(run, asked, self.claim)
            raw = run.answers((asked.picture(q) for q in asked.questions), spec)
        try:
            verdict = self.conclude(raw, range(len(raw)), "file", suspect.sha256)
        except ValueError as exc:
            raise RefusedModel(path=path, reason=f"its answers: {exc}", hint="is it a classifier?") from exc
        seconds = time.monotonic() - started
        return replace(verdict, preparation=preparation, suspect=harmless(path.name), seconds=seconds)

    def conclude(
        self,
        raw: npt.NDArray[np.generic],
        numbers: Sequence[int],
        source: str,
        suspect_sha256: str = "",
        expected: Sequence[int | None] | None = None,
    ) -> Verdict:
        """Weigh `raw` answers, (n, outputs) or class numbers (n,), to the questions `numbers`.

        `expected`: the output of each class by name, where names are known. Raises `ValueError` for what is no answer.
        """
        classes = self.claim.key.classes
        scores = as_scores(raw, len(classes))
        _, by_class = self.questionnaire.sorted_out(scores, numbers)
        shown = [i for i, name in enumerate(classes) if name in by_class]
        mean = np.stack([by_class[classes[i]].mean(axis=0) for i in shown])
        alignment = align(mean, shown, len(classes), expected)
        composites, ordinary = self.questionnaire.sorted_out(alignment.apply(scores), numbers)
        evidence = weigh(self.rules, classes, composites, ordinary, alignment.known, self.claim.key.decision)
        return Verdict(
            evidence.verdict(self.alpha),
            evidence,
            alignment,
            self.rules,
            self.alpha,
            len(scores),
            sum(len(answers) for answers in ordinary.values()),
            source,
            suspect_sha256,
            self.claim_sha256,
            self.claim.commitment,
            self.claim.key.owner,
            grounds_of(self.claim, self.terms.carriers, self.terms.commitment, self.terms.suspect_since),
            0.0,
            suspect_sha256 == self.claim.model_sha256,
            means=tuple(tuple(own.mean(axis=0).tolist()) if len(own) else () for own in composites),
        )


def open_case(claim_path: Path, terms: Terms | None = None) -> Case:
    """Read a claim and check all that can be checked without a suspect. Raises `RefusedInput` (65) with the reason."""
    terms = terms or Terms()
    claim_bytes = read_limited(claim_path, MAX_JSON_BYTES)
    claim = parse_claim(claim_bytes, str(claim_path))
    if terms.commitment is not None:
        check_commitment(terms.commitment, claim)
    if terms.suspect_since and parse_time(claim.created) > parse_time(terms.suspect_since):
        reason = f"it is dated {claim.created}, after the suspect, which is known since {terms.suspect_since}"
        hint = "a key that was drawn when the suspect could be looked at proves nothing"
        raise RefusedInput(path=claim_path, reason=reason, hint=hint)
    return Case(claim, sha256_hex(claim_bytes), claim_path, terms)


def verify_file(suspect_path: Path, claim_path: Path, terms: Terms | None = None) -> Verdict:
    """Judge an untrusted ONNX file by a claim. Raises `RefusedModel` or `RefusedInput` (65)."""
    started = time.monotonic()
    verdict = open_case(claim_path, terms).judge(suspect_path)
    return replace(verdict, seconds=time.monotonic() - started)
