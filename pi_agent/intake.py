"""Taking pictures in: find them, prepare them, store them, queue them; a bad one is reported and skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pi_agent.agent import Agent
from pi_agent.contract.errors import NothingToDo, RefusedInput
from pi_agent.contract.images import MAX_QUERY_BYTES, QueryImage
from pi_agent.contract.transfer_set import safe_members
from pi_agent.prepare import SUFFIXES, prepare_bytes, prepare_file

_BATCH = 64
"""Pictures per transaction: one durable write for many images, and little to do again after a crash."""


@dataclass
class Intake:
    """What `add` did; `refused` holds (path, reason)."""

    added: int = 0
    known: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)


def find_sources(paths: Sequence[Path]) -> list[Path]:
    """The files behind `paths`: files as named, folders walked for pictures and batches in sorted order.

    Raises `NothingToDo` (65) for a path that does not exist and when there is no picture at all.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = (p for p in sorted(path.rglob("*")) if p.suffix.lower() in SUFFIXES and p.is_file())
            found += inside
        elif path.exists() or path.is_symlink():
            found.append(path)
        else:
            raise NothingToDo(path=path, reason="no such file or folder", hint="check the path")
    if not found:
        named = ", ".join(str(p) for p in paths)
        raise NothingToDo(
            path=named, reason="no pictures in it", hint="give a folder with JPEG, PNG, WebP, BMP or TIFF"
        )
    return found


def take_in(
    agent: Agent, sources: Sequence[Path], priority: int, progress: Callable[[int], None] = lambda count: None
) -> Intake:
    """Prepare and queue everything in `sources`. The same picture twice is one picture."""
    intake = Intake()
    for group in _batched(_prepare_all(sources, intake, progress)):
        agent.pictures.put_all(image for image, _ in group)
        fresh = agent.queue.add([(image.sha256, source) for image, source in group], priority, agent.clock.now())
        intake.added += fresh
        intake.known += len(group) - fresh
    return intake


def _batched(items: Iterable[tuple[QueryImage, str]]) -> Iterator[list[tuple[QueryImage, str]]]:
    group: list[tuple[QueryImage, str]] = []
    for item in items:
        group.append(item)
        if len(group) == _BATCH:
            yield group
            group = []
    if group:
        yield group


def _prepare_all(
    sources: Sequence[Path], intake: Intake, progress: Callable[[int], None]
) -> Iterator[tuple[QueryImage, str]]:
    for path in sources:
        try:
            if path.suffix.lower() == ".tar":
                yield from _from_batch(path, intake)
            else:
                yield prepare_file(path), str(path)
        except RefusedInput as exc:
            intake.refused.append((str(path), str(exc.fields["reason"])))
        progress(1)


def _from_batch(path: Path, intake: Intake) -> Iterator[tuple[QueryImage, str]]:
    """The pictures of a query batch in the order that `train-host select` gave them."""
    pictures = 0
    for name, data in safe_members(path, MAX_QUERY_BYTES * 8):
        if Path(name).suffix.lower() not in SUFFIXES:
            continue
        pictures += 1
        try:
            yield prepare_bytes(data, f"{path}:{name}"), f"{path.name}:{name}"
        except RefusedInput as exc:
            intake.refused.append((f"{path}:{name}", str(exc.fields["reason"])))
    if pictures == 0:
        raise RefusedInput(path=path, reason="no pictures in it", hint="")
