"""One round's choice, from folders and files to the batch of the next night."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pi_agent.contract.errors import CannotCreate, NothingToDo, RefusedInput, RefusedModel
from pi_agent.contract.files import sha256_hex
from pi_agent.contract.manifest import InputSpec
from pi_agent.contract.transfer_set import read_transfer_set
from training_host.attacks.base import Situation, Strategy, Student
from training_host.attacks.making import make_queries
from training_host.data.arrays import ScoredSet, load_transfer_sets
from training_host.data.batch import read_batch, write_batch
from training_host.data.pool import Pool

KINDS = ("plain", "augmented", "mixed", "foreign")
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Knowledge:
    """What earlier rounds left. `answered`: hashes of all asked queries; `models`: hashes of the substitutes' ONNX."""

    spec: InputSpec
    students: tuple[Student, ...] = ()
    models: tuple[str, ...] = ()
    answers: ScoredSet | None = None
    answered: frozenset[str] = frozenset()


def gather(substitutes: Sequence[Path], transfer: Sequence[Path]) -> Knowledge:
    """Read substitutes, best first, and transfer sets.

    Raises `RefusedModel` or `RefusedInput` (65), also where they differ in their classes or in how they see pictures.
    """
    students: list[Student] = []
    models: list[str] = []
    spec, classes = InputSpec(), None
    if substitutes:
        from training_host.attacks.students import open_student  # only now: it loads torch

        for number, path in enumerate(substitutes):
            student, manifest = open_student(path)
            if number and (manifest.input, manifest.classes) != (spec, classes):
                reason = "its classes or its input differ from those of the other substitutes"
                raise RefusedModel(path=path, reason=reason, hint="give substitutes of the same oracle")
            spec, classes = manifest.input, manifest.classes
            students.append(student)
            models.append(manifest.onnx_sha256)
    if not transfer:
        return Knowledge(spec, tuple(students), tuple(models))
    answers = load_transfer_sets(transfer, spec)
    if classes not in (None, answers.classes):
        reason = "its classes are not those of the answers"
        raise RefusedModel(path=substitutes[0], reason=reason, hint="give substitutes and answers of the same oracle")
    answered = frozenset(item.sha256 for path in transfer for item in read_transfer_set(path))
    return Knowledge(spec, tuple(students), tuple(models), answers, answered)


def look_at_output(out: Path) -> None:
    """Before long work begins: `out` can be written, or is a batch already. Raises `CannotCreate` (73)."""
    if not out.parent.is_dir():
        raise CannotCreate(path=out, reason="its folder does not exist")
    if out.exists() or out.is_symlink():
        _work_of(out)


def select_job(
    pool: Pool,
    known: Knowledge,
    strategy: Strategy,
    size: int,
    seed: int,
    out: Path,
    progress: Progress = lambda count: None,
) -> dict[str, Any]:
    """Choose, make and write; returns what `train-host select --json` says.

    A batch of the same work is kept as it is. Raises `CannotCreate` (73) where another one is there, `NothingToDo` (65)
    where nothing is left to ask.
    """
    asked = np.array([name in known.answered for name in pool.sha256], dtype=bool)
    work = {
        "strategy": repr(strategy),
        "size": size,
        "seed": seed,
        "pool": sha256_hex("".join(pool.sha256).encode()),
        "labelled": pool.labels is not None,
        "answered": sha256_hex("".join(sorted(known.answered)).encode()),
        "substitutes": list(known.models),
    }
    if out.exists():
        if _work_of(out) != work:
            raise CannotCreate(path=out, reason="another batch is there already", hint="give another --out")
    else:
        # Rounds with the same --seed must not draw the same numbers.
        rng = np.random.default_rng([seed % 2**63, len(known.answered)])
        situation = Situation(pool.images, asked, size, rng, known.students, known.answers, pool.labels)
        queries = strategy.choose(situation)
        if not queries:
            raise NothingToDo(path=out, reason=f"{strategy.name} has nothing left to ask", hint="give a larger --pool")
        write_batch(out, make_queries(queries, pool, known.answered, progress), work)
    kinds = read_batch(out)[1]
    return {
        "path": str(out),
        "strategy": strategy.name,
        "size": kinds.total(),
        **{kind: kinds[kind] for kind in KINDS},
        "pool": len(pool),
        "already_answered": int(asked.sum()),
        "refused": len(pool.refused),
        "seed": seed,
    }


def _work_of(out: Path) -> dict[str, Any]:
    try:
        work = read_batch(out)[0]
    except RefusedInput:
        work = None
    if work is None:
        raise CannotCreate(path=out, reason="something else is there already", hint="give another --out")
    return work
