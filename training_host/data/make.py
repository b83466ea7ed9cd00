"""Write the rendered default data: `<class>/<number>.jpg`, ready query images, the same for the same seed."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from pi_agent.contract.files import atomic_write, make_folder
from pi_agent.prepare import encode_query
from training_host.data.waste import CLASSES, render

_JPEG_QUALITY = 90


def make_data(out: Path, seed: int, per_class: int, progress: Callable[[int], None] = lambda count: None) -> int:
    """Render `per_class` pictures of each class below `out`; returns how many. Files that are there already are kept.

    Every picture has a generator of its own, seeded by (seed, class, number): more pictures later do not change earlier
    ones, and an interrupted run goes on where it was.
    """
    jobs = [(c, i) for i in range(per_class) for c in range(len(CLASSES))]
    for name in CLASSES:
        make_folder(out / name)
    cores = os.cpu_count() or 1
    # Spawned, not forked: torch and OpenCV may have threads running that a fork would leave in pieces.
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        for _ in pool.map(partial(_render_to_file, out, seed), jobs, chunksize=16):
            progress(1)
    return len(jobs)


def _render_to_file(out: Path, seed: int, job: tuple[int, int]) -> None:
    number, index = job
    path = out / CLASSES[number] / f"{index:05d}.jpg"
    if path.exists():
        return
    pixels = render(CLASSES[number], np.random.default_rng([seed, number, index]))
    with atomic_write(path) as stream:
        stream.write(encode_query(pixels, _JPEG_QUALITY))
