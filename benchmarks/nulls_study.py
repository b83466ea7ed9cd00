"""One honest model: made, asked once, weighed for hundreds of keys; kept on disk as soon as it is done.

A finished model is one `.npz` that appears whole or not at all, so whoever kills the run loses the models at work only.
"""

from __future__ import annotations

import os
import time
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.common import ROOT
from benchmarks.nulls_data import CLASSES, SETTINGS, Answers, Bench, make_bench
from benchmarks.nulls_keys import P, Ready, found_by, fresh_key, judge, row
from benchmarks.nulls_spec import Spec
from benchmarks.nulls_training import foreign_key
from benchmarks.nulls_zoo import build, zoo
from pi_agent.contract.claim import Alignment, as_scores, draw_rules
from pi_agent.contract.files import atomic_write, sha256_hex
from training_host.data.arrays import LabelledSet

SHAPES = ("as it is", "permuted", "merged or dropped")
"""The outputs of a suspect, as a thief may have changed them."""
COMPARED = 10
"""Of so many keys for every model and shape `weigh` itself is asked, too."""
CANDIDATES = np.array([[name not in (a, b) for name in CLASSES] for a, b, _ in SETTINGS])
"""bool (settings, classes): whether a class can be the target."""


@dataclass(frozen=True)
class Study:
    """One model. `p[shape]`: (keys, tests). `found[shape]`: classes that alignment put on the right output.

    `hits`: rules obeyed under every key, (keys,), outputs as they are. `shares`: mean score of every class on the
    composites of every setting, (settings, classes). `own`: rules obeyed, p-value of the decision and mean score on the
    targets, for the key of the other owner whose mark is in it; empty where there is none. `compared`: for how many
    keys `weigh` itself was called, with the same p-values. `seconds`: of a processor.
    """

    spec: Spec
    accuracy: float
    p: Mapping[str, P]
    found: Mapping[str, int]
    hits: npt.NDArray[np.int64]
    shares: npt.NDArray[np.float32]
    own: tuple[float, ...]
    compared: int
    seconds: float


def study(number: int, keys: int, made: Bench) -> Study:
    """Make one model, ask it once, weigh its answers for all keys; a fifth of them where outputs are changed."""
    start, spec, rng = time.process_time(), zoo()[number], np.random.default_rng([99, number])
    plain = Answers.of(as_scores(build(spec, made.training)(made.shown), 12))
    p, found, hits, compared = {}, {}, [], 0
    for shape in SHAPES:
        answers, groups = changed(plain, shape, rng)
        alignment = found_by(answers)
        found[shape] = sum(c is not None and i in groups[c] for i, c in enumerate(alignment.columns))
        ready, rows = Ready(answers, alignment), []
        for turn in range(keys if shape == SHAPES[0] else max(1, keys // 5)):
            rules = draw_rules(fresh_key(rng, made.carriers_sha256))
            rows.append(ready.row(rules))
            if shape == SHAPES[0]:
                hits.append(ready.hits(rules))
            if turn < COMPARED:
                compared += 1
                real = judge(rules, answers, alignment)
                if rows[-1] != row(real) or (shape == SHAPES[0] and hits[-1] != real.hits):
                    raise RuntimeError(f"{spec.name}, {shape}: the prepared answers give other figures than weigh()")
        p[shape] = np.array(rows)
    alignment = found_by(plain)
    shares = np.stack([alignment.apply(own).mean(axis=0) for own in plain.composites]).astype(np.float32)
    own = of_own_key(spec, plain, alignment)
    took = time.process_time() - start
    return Study(spec, plain.accuracy, p, found, np.array(hits), shares, own, compared, took)


def of_own_key(spec: Spec, answers: Answers, alignment: Alignment) -> tuple[float, ...]:
    """What the test says for the key that *is* in a model, or in its teacher: is this null really a marked model?"""
    key = foreign_key(spec, CLASSES)
    if key is None:
        return ()
    real = judge(draw_rules(key), answers, alignment)
    return float(real.hits), real.p_value, float(np.mean(real.share))


def changed(answers: Answers, shape: str, rng: np.random.Generator) -> tuple[Answers, list[set[int]]]:
    """Outputs in another order, or some merged and some dropped; and which classes each output stands for."""
    if shape == "as it is":
        groups = [{i} for i in range(12)]
    else:
        groups = [{int(i)} for i in rng.permutation(12)]
        if shape == "merged or dropped":
            groups = [groups[0] | groups[1], *groups[2 : int(rng.integers(8, 12))]]
    join = np.array([[float(i in own) for own in groups] for i in range(12)])
    return Answers(answers.composites @ join, answers.ordinary @ join), groups


def code_sha256() -> str:
    """Of all sources that a p-value depends on: another version's models are not gone on with."""
    folders = [f"benchmarks/nulls_{part}.py" for part in ("data", "keys", "spec", "study", "training", "zoo")]
    folders += ["pi_agent/contract/**/*.py", "pi_agent/prepare.py"]
    host = [f"training_host/{part}/**/*.py" for part in ("data", "nets", "training", "watermarks")]
    files = sorted({path for pattern in (*folders, *host) for path in ROOT.glob(pattern)})
    return sha256_hex(b"".join(str(f.relative_to(ROOT)).encode() + b"\0" + f.read_bytes() for f in files))


def outstanding(work: Path, count: int) -> list[int]:
    """The numbers of models that are not done yet; what a file that cannot be read stood for is done anew."""
    return [number for number in range(count) if load(work, number) is None]


def study_and_keep(number: int, keys: int, work: Path) -> int:
    """In a worker: the study, on disk."""
    torch.set_num_threads(1)
    save(work, number, study(number, keys, bench_in(work)))
    return number


def save(work: Path, number: int, done: Study) -> None:
    """Raises `StorageError` (74) where the disk is full."""
    arrays = {f"p {shape}": done.p[shape] for shape in SHAPES}
    figures = np.array([done.accuracy, done.compared, done.seconds, *(done.found[shape] for shape in SHAPES)])
    arrays |= {"hits": done.hits, "shares": done.shares, "own": np.array(done.own, np.float64), "figures": figures}
    with atomic_write(work / f"{number:04d}.npz") as stream:
        np.savez_compressed(stream, spec=np.array(repr(done.spec)), **arrays)


def load(work: Path, number: int) -> Study | None:
    """What `save` kept; None where there is nothing, nothing readable or another model."""
    spec = zoo()[number]
    kept = _arrays(work / f"{number:04d}.npz")
    if not kept or str(kept["spec"]) != repr(spec):
        return None
    accuracy, compared, seconds, *found = kept["figures"].tolist()
    p = {shape: kept[f"p {shape}"] for shape in SHAPES}
    right = {shape: int(n) for shape, n in zip(SHAPES, found, strict=True)}
    own = tuple(kept["own"].tolist())
    return Study(spec, accuracy, p, right, kept["hits"], kept["shares"], own, int(compared), seconds)


def _arrays(path: Path) -> dict[str, Any]:
    """All arrays of a file, none where it is not there or damaged."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            return dict(kept)
    except (OSError, ValueError, KeyError, EOFError, zlib.error, zipfile.BadZipFile):
        return {}


@cache
def bench_in(work: Path) -> Bench:
    """The pictures of this run: rendered once, then read by every worker."""
    path = work / "pictures.npz"
    kept = _arrays(path)
    if kept:
        training = LabelledSet(kept["images"], kept["labels"], CLASSES, ("",) * len(kept["labels"]))
        return Bench(training, {name: list(kept[f"carriers {name}"]) for name in CLASSES})
    made = make_bench()
    carriers = {f"carriers {name}": np.stack(list(own)) for name, own in made.carriers.items()}
    with atomic_write(path) as stream:
        np.savez_compressed(stream, images=made.training.images, labels=made.training.labels, **carriers)
    return made


def default_work(keys: int) -> Path:
    """In the user's cache, named after what decides the figures."""
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache_home / "magpie-nulls" / f"{keys}-keys-{code_sha256()[:12]}"


def all_in(work: Path, numbers: Iterable[int]) -> list[Study]:
    """Those of `numbers` that are done."""
    return [done for done in (load(work, number) for number in numbers) if done is not None]
