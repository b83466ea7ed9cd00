"""Run a suite of attacks over processes. Every result is a file as soon as it is there; the same call goes on."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import torch
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError

from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.files import make_folder, read_json, sha256_hex, write_json
from pi_agent.contract.signed import canonical
from training_host.errors import WorkerDied
from training_host.removal.base import Removal, Stolen, Thief
from training_host.removal.subject import Subject

REFERENCE = "reference"
"""The kind of the two rows that are no attacks."""
ATTACKS, HONEST = "attacks", "honest"


@dataclass(frozen=True)
class AsItIs:
    """The marked model itself."""

    kind: str = REFERENCE

    def steal(self, thief: Thief) -> Stolen:
        """Nothing is done to it."""
        return Stolen.of(thief.network, thief.device)


@dataclass(frozen=True)
class HonestModel:
    """An unmarked network of the same recipe with another seed."""

    kind: str = REFERENCE

    def steal(self, thief: Thief) -> Stolen:
        """Nothing is stolen."""
        return Stolen.of(thief.honest(0), thief.device)


REFERENCES: Mapping[str, Removal] = {"the marked model": AsItIs(), "an honest model": HonestModel()}


@dataclass(frozen=True)
class Job:
    """One attack with one seed; seeds count from 0."""

    name: str
    attack: Removal
    seed: int

    def identity(self, subject: Subject) -> str:
        """Results with the same one are interchangeable."""
        return sha256_hex(canonical([subject.identity, repr(self.attack), self.seed]))

    def path(self, subject: Subject, out: Path) -> Path:
        """Where its result belongs."""
        words = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")[:60]
        return out / ATTACKS / f"{words}-{self.seed}-{self.identity(subject)[:12]}.json"


def jobs_of(suite: Mapping[str, Removal], seeds: int) -> list[Job]:
    """The two references once, then every attack with every seed; all attacks with the first seed come first."""
    references = [Job(name, attack, 0) for name, attack in REFERENCES.items()]
    return [*references, *(Job(name, attack, seed) for seed in range(seeds) for name, attack in suite.items())]


def run_suite(
    subject: Subject,
    jobs: list[Job],
    out: Path,
    processes: int,
    done: Callable[[dict[str, Any]], None] = lambda result: None,
) -> list[dict[str, Any]]:
    """The results of all jobs, in their order. `done` is called with each, those of an earlier run first.

    A result that is there already is taken; a failed attack is tried again. An attack that raises is a result with
    `error`. Raises `WorkerDied` when the system ends a process, `StorageError` (74) where results cannot be written;
    whatever was finished before stays.
    """
    make_folder(out / ATTACKS)
    found = {i: known for i, job in enumerate(jobs) if (known := _finished(job, subject, out))}
    for result in found.values():
        done(result)
    waiting = [i for i in range(len(jobs)) if i not in found]
    for i, result in _in_processes(subject, jobs, waiting, out / HONEST, processes):
        write_json(jobs[i].path(subject, out), result)
        found[i] = result
        done(result)
    return [found[i] for i in range(len(jobs))]


def _finished(job: Job, subject: Subject, out: Path) -> dict[str, Any] | None:
    path = job.path(subject, out)
    try:
        result = read_json(path) if path.exists() else {}
    except RefusedInput:
        return None  # damaged by somebody else: run it again
    whole = result.get("identity") == job.identity(subject) and "accuracy" in result
    return {**result, "name": job.name} if whole else None


def _in_processes(
    subject: Subject, jobs: list[Job], waiting: list[int], honest: Path, processes: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Results as they come. One process: here, without others."""
    if processes == 1 or len(waiting) < 2:
        for i in waiting:
            yield i, _attack(subject, jobs[i], honest)
        return
    parent = os.getpid()
    # Copy on write: torch warns about arrays that it may not write to.
    pool = joblib.Parallel(
        min(processes, len(waiting)), "loky", return_as="generator_unordered", batch_size=1, mmap_mode="c"
    )
    try:
        yield from pool(joblib.delayed(_in_worker)(i, subject, jobs[i], honest, parent) for i in waiting)
    except TerminatedWorkerError as exc:
        raise WorkerDied() from exc
    finally:
        get_reusable_executor().shutdown(wait=False, kill_workers=True)


def _in_worker(number: int, subject: Subject, job: Job, honest: Path, parent: int) -> tuple[int, dict[str, Any]]:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent tidies up
    _end_with(parent)
    return number, _attack(subject, job, honest)


def _end_with(parent: int) -> None:
    """End this worker soon after its parent: a killed run must not go on computing where nobody sees it."""
    name = "parent-watch"
    if any(thread.name == name for thread in threading.enumerate()):
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, name=name, daemon=True).start()


def _attack(subject: Subject, job: Job, honest: Path) -> dict[str, Any]:
    began = time.monotonic()
    result: dict[str, Any] = {
        "schema": "removal/1",
        "identity": job.identity(subject),
        "name": job.name,
        "attack": repr(job.attack),
        "kind": job.attack.kind,
        "seed": job.seed,
    }
    with _one_thread():
        try:
            result |= subject.measure(job.attack.steal(subject.thief(job.seed, honest)))
        except Exception as exc:
            # Whatever it was, it is told in the table; the other attacks go on.
            result["error"] = " ".join(f"{type(exc).__name__}: {exc}".split())[:500]
    return {**result, "seconds": round(time.monotonic() - began, 1)}


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Processes share the cores; and sums come out the same, however many cores there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
