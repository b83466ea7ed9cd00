"""The questions as query images, each asked once: what an oracle is shown, and what its answers are found by."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pi_agent.contract.files import atomic_write
from pi_agent.contract.images import QueryImage
from pi_agent.contract.transfer_set import add_member
from pi_agent.verify.case import Case
from pi_agent.verify.verdict import Ground, Verdict

Vector = npt.NDArray[np.floating]


class Sheet:
    """The questions of a case in their order. An image that stands for several of them (`Manner.mix`) is asked once.

    Holds hashes, not images: a Pi has little memory, and the same question gives the same bytes again. Raises
    `RefusedInput` (65) for bad carriers.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        self.numbers: dict[str, list[int]] = {}
        """By SHA-256: the questions that show this image."""
        for number, image in self._all():
            self.numbers.setdefault(image.sha256, []).append(number)

    @property
    def questions(self) -> int:
        """How many questions there are."""
        return len(self.case.questionnaire.questions)

    def images(self, chosen: Iterable[str] | None = None) -> Iterator[QueryImage]:
        """The images with these hashes, in the given order; default: all, in the order of the questions."""
        questions = self.case.questionnaire
        for sha256 in self.numbers if chosen is None else chosen:
            yield QueryImage(questions.jpeg(questions.questions[self.numbers[sha256][0]]), sha256)

    def count(self, images: Iterable[str]) -> int:
        """How many questions these images stand for."""
        return sum(len(self.numbers[sha256]) for sha256 in images)

    def has_ordinary(self, images: Iterable[str]) -> bool:
        """Whether one of these images is an ordinary picture."""
        ordinary = set(self.case.questionnaire.ordinary)
        return any(number in ordinary for sha256 in images for number in self.numbers[sha256])

    def weigh(
        self, answers: Mapping[str, Vector], names: Sequence[str], source: str, suspect: str, answered_by: Ground
    ) -> Verdict:
        """The verdict on `answers`, by SHA-256: scores or shares of votes of the classes `names`, shape (classes,).

        Questions without an answer are left out, and counted. Raises `ValueError` where no ordinary picture has one.
        """
        rows = [(number, sha256) for sha256, own in self.numbers.items() if sha256 in answers for number in own]
        raw = np.stack([answers[sha256] for _, sha256 in rows]).astype(np.float64)
        raw /= raw.sum(axis=1, keepdims=True)  # what a server rounded must not be taken for logits
        numbers = [number for number, _ in rows]
        found = self.case.conclude(raw, numbers, source, expected=columns_by_name(self.case.claim.key.classes, names))
        unanswered = self.questions - len(numbers)
        return replace(found, suspect=suspect, unanswered=unanswered, grounds=(*found.grounds, answered_by))

    def _all(self) -> Iterator[tuple[int, QueryImage]]:
        questions = self.case.questionnaire
        for number, question in enumerate(questions.questions):
            yield number, QueryImage.of(questions.jpeg(question))


def columns_by_name(classes: Sequence[str], names: Sequence[str]) -> list[int | None] | None:
    """The column of every class of the claim where all are among the suspect's `names`, else None.

    It is what one expects, not more: ordinary pictures have to agree, for a thief may have exchanged the names.
    """
    column = {name: i for i, name in enumerate(names)}
    return [column[name] for name in classes] if all(name in column for name in classes) else None


def write_questions(case: Case, path: Path) -> Sheet:
    """Write the questions as a query batch: numbered JPEGs, to be asked as they are by whatever client can.

    The names say nothing. Readable by its owner only: who sees which pictures meet knows what to look out for. Raises
    `RefusedInput` (65) for bad carriers, `CannotCreate` (73), `StorageError` (74).
    """
    sheet = Sheet(case)
    digits = len(str(len(sheet.numbers)))
    with (
        atomic_write(path, mode=0o600) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for number, image in enumerate(sheet.images(), start=1):
            add_member(tar, f"{number:0{digits}}.jpg", image.jpeg)
    return sheet
