"""A suspect that only its answers are known of: a transfer set, or lines of JSON from somebody's own client.

Nothing is asked, and no network is needed. That the suspect gave these answers is the word of whoever made the file.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.files import open_regular
from pi_agent.contract.log import harmless
from pi_agent.contract.transfer_set import TransferItem, read_transfer_set
from pi_agent.verify.answer_lines import read_answer_lines
from pi_agent.verify.case import Case
from pi_agent.verify.matching import Finder
from pi_agent.verify.sheet import Sheet
from pi_agent.verify.verdict import Ground, Verdict

MAX_ANSWER_BYTES = 4 * 1024**3
"""Of the whole file: forty thousand answered pictures."""
MOST_ANSWERS = 1000
"""For one question: `collect --repeats` goes no further."""
_MISSING_HINT = (
    "write them with `pi-agent verify --questions OUT.tar`, have them asked and export again; "
    "--carriers, --mix and --jpeg must be the same each time"
)
Vector = npt.NDArray[np.float64]


def judge_answers(case: Case, path: Path) -> Verdict:
    """Weigh stored answers; each question must have one. Raises `RefusedInput` (65)."""
    started = time.monotonic()
    is_json, digest = _look_at(path)
    sheet = Sheet(case)
    usual = case.claim.key.classes
    answers, names = read_answer_lines(path, sheet.numbers, usual) if is_json else _from_transfer_set(path, sheet)
    if missing := sheet.questions - sheet.count(answers):
        reason = f"{missing} of {sheet.questions} questions have no answer in it"
        raise RefusedInput(path=path, reason=reason, hint=_MISSING_HINT)
    how = f"as they stand in a file with SHA-256 {digest}; whoever made it vouches for them"
    found = sheet.weigh(answers, names, "answers", harmless(path.name), Ground("answers", how, False))
    return replace(found, seconds=time.monotonic() - started)


def _look_at(path: Path) -> tuple[bool, str]:
    """Whether it is lines of JSON (else a tar), and its SHA-256. Some editors put a mark of three bytes before JSON."""
    found, first = hashlib.sha256(), b""
    with open_regular(path, follow_links=True) as stream:
        if os.fstat(stream.fileno()).st_size > MAX_ANSWER_BYTES:
            raise RefusedInput(path=path, reason=f"larger than {MAX_ANSWER_BYTES // 1024**3} GiB", hint="")
        while part := stream.read(1 << 20):
            found.update(part)
            first = first or part.lstrip()[:1]
    return first in (b"{", b"\xef", b""), found.hexdigest()


def _from_transfer_set(path: Path, sheet: Sheet) -> tuple[Mapping[str, Vector], tuple[str, ...]]:
    """By the hash of the image; what is not found by it, in a second look, by what the image shows."""
    pile = _Pile(path)
    for item in read_transfer_set(path):
        pile.classes = item.classes
        if item.sha256 in sheet.numbers:
            pile.add(item.sha256, item)
    if missing := {sha256 for sha256 in sheet.numbers if sha256 not in pile.sums}:
        finder = Finder(sheet)
        for item in read_transfer_set(path):
            if item.sha256 not in sheet.numbers and (shown := finder.find(item.jpeg)) in missing:
                pile.add(shown, item)
    return {sha256: total / total.sum() for sha256, total in pile.sums.items()}, pile.classes


@dataclass
class _Pile:
    """Answers added up by question. Nights that were joined hold the same answer twice: it counts once."""

    path: Path
    sums: dict[str, Vector] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    _seen: set[tuple[str, int, str]] = field(default_factory=set)
    _counts: Counter[str] = field(default_factory=Counter)

    def add(self, sha256: str, item: TransferItem) -> None:
        """Add the answers of an item to those of a question. Raises `RefusedInput` (65) for too many."""
        for vector, at, attempt in zip(item.vectors, item.times, item.attempts, strict=True):
            mark = (item.sha256, attempt, at)
            if attempt and at and mark in self._seen:
                continue
            self._seen.add(mark)
            self._counts[sha256] += 1
            if self._counts[sha256] > MOST_ANSWERS:
                raise RefusedInput(path=self.path, reason=f"{sha256}: more than {MOST_ANSWERS} answers", hint="")
            self.sums[sha256] = self.sums.get(sha256, np.zeros(len(vector))) + vector.astype(np.float64)
