"""A verdict as a document: signed JSON with all that a reader needs to follow the test, and to doubt it.

It names the rules, as the claim does, but neither seed nor salt: whoever has it cannot make further claims. Like the
claim it is for the eyes of those who settle the dispute, so it is written 0600.
"""

from __future__ import annotations

import importlib.metadata
import platform
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pi_agent import __version__
from pi_agent.contract.claim import Rule
from pi_agent.contract.claim.p_value import INVESTIGATE
from pi_agent.contract.errors import CannotCreate, from_write_error
from pi_agent.contract.files import atomic_write, sha256_hex
from pi_agent.contract.signed import Signer
from pi_agent.verify.case import Case
from pi_agent.verify.page import Signature, render
from pi_agent.verify.pictures import pictures_of
from pi_agent.verify.verdict import Verdict

SCHEMA = "verdict/1"
RIVALS = 2
"""So many classes besides the target are named for every rule."""


@dataclass(frozen=True)
class Outputs:
    """The files to write: a signed report, a page for people, or both."""

    report: Path | None = None
    page: Path | None = None

    def __bool__(self) -> bool:
        return bool(self.report or self.page)

    def check(self, inputs: Mapping[str, Path | None]) -> None:
        """Fail before the work that they are to describe. `inputs`: files that must not be overwritten, by name.

        Raises `CannotCreate` (73) for a place that cannot be written to, `StorageError` (74) for a full disk.
        """
        taken = {path.resolve(): name for name, path in inputs.items() if path is not None}
        for name, path in (("report", self.report), ("page", self.page)):
            if path is None:
                continue
            if other := taken.get(path.resolve()):
                raise CannotCreate(path=path, reason=f"it is the {other} as well", hint="choose another name")
            if path.exists() and not path.is_file():
                raise CannotCreate(path=path, reason="no ordinary file is there", hint="choose another name")
            try:
                tempfile.TemporaryFile(dir=path.parent).close()
            except OSError as exc:
                raise from_write_error(exc, path) from exc
            taken[path.resolve()] = name

    def write(self, case: Case, verdict: Verdict, signer: Signer | None) -> None:
        """Write the report, then the page, each whole or not at all. Without a `signer` there is no report.

        Raises `StorageError` (74), `CannotCreate` (73).
        """
        content = content_of(case, verdict, datetime.now(UTC))
        signature = None
        if self.report is not None and signer is not None:
            data = signer.document(content)
            with atomic_write(self.report, 0o600) as stream:
                stream.write(data)
            signature = Signature(signer.public, self.report.name, sha256_hex(data))
        if self.page is not None:
            with atomic_write(self.page, 0o600) as stream:
                stream.write(render(content, pictures_of(case.questionnaire), signature))


def content_of(case: Case, verdict: Verdict, judged_at: datetime) -> dict[str, Any]:
    """All that the report says, ready to be signed. `judged_at` is UTC."""
    claim = case.claim
    return {
        "schema": SCHEMA,
        **verdict.as_dict(),
        "judged_at": judged_at.isoformat(timespec="seconds"),
        "judge": {
            "program": "pi-agent",
            "version": __version__,
            "onnxruntime": importlib.metadata.version("onnxruntime"),
            "machine": platform.machine(),
        },
        "manner": {"mix": case.terms.manner.mix, "jpeg": case.terms.manner.jpeg},
        "questions": len(case.questionnaire.questions),
        "registered": {
            "decision": claim.key.decision,
            "alpha": claim.key.alpha,
            "alpha_overridden": case.alpha != claim.key.alpha,
            "inconclusive_up_to": INVESTIGATE,
        },
        "claim": {
            "committed_at": claim.committed_at,
            "created": claim.created,
            "model_sha256": claim.model_sha256,
            "carriers_sha256": claim.carriers_sha256,
            "generator": claim.key.generator,
            "beacon": claim.key.beacon,
            "beacon_value": claim.key.beacon_value,
        },
        "carriers": "owner" if case.terms.carriers is None else "judge",
        "suspect_since": case.terms.suspect_since,
        "rule_table": [_rule(case, verdict, number, rule) for number, rule in enumerate(verdict.rules)],
        "alignment": {
            "expected": verdict.alignment.expected,
            "mean_score": verdict.alignment.gain,
            "outputs": dict(zip(claim.key.classes, verdict.alignment.columns, strict=True)),
        },
    }


def _rule(case: Case, verdict: Verdict, number: int, rule: Rule) -> dict[str, Any]:
    classes, known = case.claim.key.classes, verdict.alignment.known
    evidence = verdict.evidence
    outcome = "hit" if evidence.hit[number] else "not hit" if evidence.tested[number] else "untested"
    candidates = [name for name in rule.candidates(classes) if known[classes.index(name)]]
    told = zip(classes, verdict.means[number], known, strict=True) if verdict.means[number] else ()
    return {
        "first": rule.first,
        "second": rule.second,
        "geometry": rule.geometry,
        "target": rule.target,
        "candidates": len(candidates),
        "outcome": outcome,
        "mean_score": evidence.share[number],
        "said": _said({name: mean for name, mean, has in told if has}, rule, candidates),
    }


def _said(means: Mapping[str, float], rule: Rule, candidates: list[str]) -> list[dict[str, Any]]:
    """Mean scores of the target, the best other candidates and the better source, the highest first.

    `means`: of the classes that the suspect knows; without any, nothing was said.
    """

    def best(names: Iterable[str], most: int) -> list[str]:
        return sorted((name for name in names if name in means), key=lambda name: -means[name])[:most]

    roles = dict.fromkeys(best((rule.first, rule.second), 1), "source")
    roles |= dict.fromkeys(best((name for name in candidates if name != rule.target), RIVALS), "candidate")
    roles |= dict.fromkeys(best((rule.target,), 1), "target")
    return [{"class": name, "mean_score": means[name], "role": roles[name]} for name in best(roles, len(roles))]
