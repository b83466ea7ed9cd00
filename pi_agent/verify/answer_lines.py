"""Answers that somebody collected with a client of their own: a JSON object a line.

    {"sha256": "<of the JPEG that was asked>", "classes": ["glass", "metal"], "scores": [0.9, 0.1]}
    {"sha256": "<of the JPEG that was asked>", "label": "glass"}

The file may come from anybody: it is read line by line, never more than a line at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pi_agent.contract.answers import MAX_CLASSES, Answer, BadAnswer, checked_classes, parse_answer
from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.files import open_regular, parse_json
from pi_agent.contract.signed import is_hex

MAX_LINE_BYTES = 2 * 1024 * 1024
"""4096 classes with long names and a score for each take less."""
_FORM = 'a line is {"sha256": ..., "classes": [...], "scores": [...]} or {"sha256": ..., "label": ...}'
Vector = npt.NDArray[np.float64]


def read_answer_lines(
    path: Path, wanted: Collection[str], usual: Sequence[str]
) -> tuple[dict[str, Vector], tuple[str, ...]]:
    """The mean answer, float64 (classes,), for each of the `wanted` SHA-256s that the file knows, and the class names.

    Either every line names the classes, all the same, or none does: then the classes are the `usual` ones and whatever
    other labels there are. Raises `RefusedInput` (65) at the first line that is no answer.
    """
    sums: dict[str, Vector] = {}
    votes: dict[str, Counter[str]] = {}
    labels: set[str] = set()
    classes: tuple[str, ...] | None = None
    for number, record in _records(path):
        where = f"{path}, line {number}"
        try:
            sha256, answer = parse_record(record, classes)
            if bool(sums if isinstance(answer, str) else votes):
                raise BadAnswer("some lines name their classes, and some do not")
        except BadAnswer as exc:
            raise RefusedInput(path=where, reason=str(exc), hint=_FORM) from exc
        if isinstance(answer, str):
            labels.add(answer)
            if len(labels) > MAX_CLASSES:
                raise RefusedInput(path=where, reason=f"more than {MAX_CLASSES} different labels", hint=_FORM)
            votes.setdefault(sha256 if sha256 in wanted else "", Counter())[answer] += 1
        else:
            classes = answer.classes
            of = sha256 if sha256 in wanted else ""
            sums[of] = sums.get(of, np.zeros(len(classes))) + answer.vector
    votes.pop("", None)
    sums.pop("", None)
    if votes:
        return _shares(votes, usual, path)
    return {sha256: total / total.sum() for sha256, total in sums.items()}, classes or ()


def parse_record(record: Mapping[str, Any], classes: Sequence[str] | None) -> tuple[str, Answer | str]:
    """One line's SHA-256 and answer: a bare class name where it has no `classes`. Raises `BadAnswer`.

    `classes`: those of the lines before, or None.
    """
    sha256, label = record.get("sha256"), record.get("label")
    if not isinstance(sha256, str) or not is_hex(sha256, 64):
        raise BadAnswer("`sha256` must be 64 hexadecimal digits in lower case")
    if "classes" in record or "scores" in record:
        return sha256, parse_answer(record, classes)
    if not isinstance(label, str) or not 0 < len(label) <= 200 or not label.isprintable():
        raise BadAnswer("neither scores nor a label in it")
    return sha256, label


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with open_regular(path, follow_links=True) as stream:
        number = 0
        while line := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise RefusedInput(path=path, reason=f"line {number} is longer than {MAX_LINE_BYTES // 1024} KiB")
            if line.strip():
                yield number, parse_json(line, f"{path}, line {number}")


def _shares(
    votes: dict[str, Counter[str]], usual: Sequence[str], path: Path
) -> tuple[dict[str, Vector], tuple[str, ...]]:
    """Shares of votes; the names that the claim knows come first."""
    others = sorted({label for own in votes.values() for label in own} - set(usual))
    try:
        classes = checked_classes([*usual, *others])
    except BadAnswer as exc:
        raise RefusedInput(path=path, reason=str(exc), hint=_FORM) from exc
    counted = {sha256: np.array([float(own[name]) for name in classes]) for sha256, own in votes.items()}
    return {sha256: own / own.sum() for sha256, own in counted.items()}, classes
