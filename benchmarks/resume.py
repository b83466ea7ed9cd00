"""A distillation that is killed again and again, against one that is left alone: the same points?

Run: python benchmarks/resume.py [--models DIR] [--answers 600] [--epochs 30] [--kills 5]

Both are `train-host distill` in processes of their own, with two own networks and one student, so that
every part of the recipe is there. The killed one gets SIGKILL at random moments and is started again with the same
command. A third one, with another seed, says what noise is.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import ROOT, machine, report
from benchmarks.rounds import ARCH, host
from pi_agent.contract.transfer_set import TransferItem, write_transfer_set
from pi_agent.prepare import decode_query, prepare_file
from training_host.predictor import load_predictor


def answered(pool: Path, victim: Path, count: int, out: Path) -> Path:
    """A transfer set of the pool's first pictures, answered in this process."""
    model, items = load_predictor(victim, threads=2), []
    for path in sorted(pool.rglob("*.jpg"), key=lambda p: p.name)[:count]:
        query = prepare_file(path)
        scores = model.scores(decode_query(query.jpeg))
        items.append(TransferItem(query.sha256, query.jpeg, model.classes, scores[None]))
    write_transfer_set(out, {}, items)
    return out


def killed(line: list[str], rng: np.random.Generator, kills: int, seconds: float) -> int:
    """Start, kill, start again; the last start is left alone. Returns how often it was killed before it was done."""
    for number in range(kills):
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
        try:
            process.wait(rng.uniform(0.2, 0.5) * seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        else:
            return number
    subprocess.run(line, check=True, capture_output=True, cwd=ROOT)
    return kills


def main() -> None:
    """Three distillations, one table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", type=Path, default=ROOT / "models", help="holds victim/ and independent/")
    parser.add_argument("--answers", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--kills", type=int, default=5)
    given = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        pool, held_out = work / "pool", work / "held-out"
        host("data", "make", pool, "--seed", 80, "--per-class", -(-given.answers // 12))
        host("data", "make", held_out, "--seed", 81, "--per-class", 50)
        night = answered(pool, given.models / "victim", given.answers, work / "night.tar")
        for seed in (1, 2):
            own = ("--epochs", given.epochs // 3, "--seed", seed, "--out", work / f"own{seed}")
            host("train", pool, "--arch", ARCH, *own)
        options = ["--arch", ARCH, "--epochs", given.epochs, "--students", 1, "--pool", pool]
        options += ["--own", work / "own1", "--own", work / "own2"]
        score = ("--victim", given.models / "victim", "--independent", given.models / "independent")

        def points(model: Path) -> dict[str, float]:
            found = host("score", model, *score, "--set", f"standard={held_out}")["sets"]["standard"]
            return {key: float(found[key]) for key in ("points", "l2")}

        began = time.monotonic()
        host("distill", night, *options, "--seed", 5, "--out", work / "whole")
        took = time.monotonic() - began
        line = ["distill", night, *options, "--seed", 5, "--out", work / "killed"]
        command = [sys.executable, "-m", "training_host", *map(str, line)]
        times = killed(command, np.random.default_rng(0), given.kills, took)
        host("distill", night, *options, "--seed", 6, "--out", work / "other")
        for what in ("whole", "killed", "other"):
            figures[what] = points(work / what)
        same = (work / "whole" / "model.onnx").read_bytes() == (work / "killed" / "model.onnx").read_bytes()
    told = {k: f"{f['points']:+.3f} points, L2 {f['l2']:.5f}" for k, f in figures.items()}
    rows = [
        ("left alone", told["whole"], f"{took:.0f} s"),
        (f"killed {times} times", told["killed"], "the same file" if same else "another file"),
        ("another seed", told["other"], "noise"),
    ]
    report("resume", f"{machine()}, {given.answers} answers, {given.epochs} epochs, {ARCH}", rows, figures)


if __name__ == "__main__":
    main()
