"""Fuzz the inspection of untrusted models with atheris, guided by coverage.

atheris is no dependency of the project. In an environment of its own, from the root of the checkout:

    python3 -m venv /tmp/fuzzenv
    /tmp/fuzzenv/bin/pip install atheris numpy onnx
    .venv/bin/python -m tests.fuzz.seeds /tmp/seeds
    /tmp/fuzzenv/bin/python -m tests.fuzz.fuzz_inspect /tmp/seeds -max_total_time=900 -timeout=20 -max_len=65536

It ends with "Done ... runs" where nothing was found. A finding is an exception: anything but `RefusedModel` out of the
inspection, or a file that it accepts and that means something else to Google's protobuf (`tests/hostile/meaning.py`).
The input is written to `crash-...`; make it a test.
"""

from __future__ import annotations

import sys
from random import Random

import atheris

with atheris.instrument_imports(include=["pi_agent.runtime"]):
    from tests.hostile.meaning import check
    from tests.hostile.protobuf import mutate


def target(data: bytes) -> None:
    """One input."""
    check(data)


def mutator(data: bytes, max_size: int, seed: int) -> bytes:
    """Half of the time damage that keeps the lengths right, otherwise what libFuzzer does to bytes."""
    rng = Random(seed)
    if rng.random() < 0.5:
        return atheris.Mutate(data, max_size)
    for _ in range(rng.randrange(1, 4)):
        data = mutate(bytes(data), rng) if data else b"\x3a\x00"
    return data[:max_size]


if __name__ == "__main__":
    atheris.Setup(sys.argv, target, custom_mutator=mutator)
    atheris.Fuzz()
