"""The table "Substitute": our recipe and its parts, plain distillation, ART's attacks and independent networks.

Run: python benchmarks/substitute.py default [--work DIR] [--budgets 500,2000] [--victims 3] [--kinds "magpie;plain KL"]
     python benchmarks/substitute.py PATH-TO-PHOTOS --name trashnet

Every training is one file in --work as soon as it is there, and the same command goes on; --table makes the table of
what is there. A part of the table (--kinds, --budgets, --victims) is printed, and kept in results/ with --record only.
The network is RecycleMe at a quarter of its width: two cores need it. Held-out pictures are never asked and never
trained with. The adversary has what the victim was trained with, true labels included, as in CSAW ESC 2022, and four
networks trained from them without a query. ART's two attacks run where `pip install -c constraints.txt -e .[peers]`
was done; without it their rows are missing.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import joblib

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import RESULTS, machine, report
from benchmarks.networks import ARCH
from benchmarks.substitute_bench import KINDS, OWN, REFERENCE, Bench
from benchmarks.substitute_peers import PEERS
from benchmarks.substitute_table import draw, rows_of
from benchmarks.watermark import arrays
from pi_agent.contract.files import make_folder
from pi_agent.contract.metrics import points
from training_host.training.device import best_device


def with_points(result: dict[str, Any], references: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The same result with points on the scale that the independent networks fix."""
    sets = {s: {**r, "points": points(r["l2"], references[s]["l2"])} for s, r in result["sets"].items()}
    return {**result, "sets": sets}


def main() -> None:
    """Train, steal, score, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="'default', or a folder <class>/*.jpg")
    parser.add_argument("--name", default="default")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "magpie-substitute-bench")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--victims", type=int, default=3)
    parser.add_argument("--budgets", default="500,2000,10000")
    parser.add_argument("--kinds", help="only these, separated by semicolons")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--table", action="store_true", help="train nothing: the table of what is there")
    parser.add_argument("--record", action="store_true", help="keep this table in results/ even if it is a part only")
    given = parser.parse_args()
    parts = ("kinds", "budgets", "victims")
    kept = given.record or all(getattr(given, part) == parser.get_default(part) for part in parts)
    began, work = time.monotonic(), make_folder(given.work)
    train, held_out = arrays(given.name, None if given.data == "default" else Path(given.data), work)
    bench = Bench(given.name, train, held_out, given.epochs, work)
    kinds = given.kinds.split(";") if given.kinds else [k for k in KINDS if k not in PEERS or peers_at_hand()]
    tasks = [(k, int(b), v) for b in given.budgets.split(",") for v in range(given.victims) for k in kinds]
    run = joblib.Parallel(given.jobs, max_nbytes=None)  # or workers get pictures that must not be written to
    if not given.table:
        run(joblib.delayed(bench.network)(seed) for seed in [*range(given.victims), *OWN, REFERENCE])
        run(joblib.delayed(bench.substitute)(*task) for task in tasks)
    results = [bench.substitute(*task) for task in tasks if bench.place(*task).exists()]
    references = {v: bench.references(v, given.victims) for v in range(given.victims)}
    scored = [with_points(r, references[r["victim"]]) for r in results]
    busy = sum(r["cpu_seconds"] for r in results)
    header = (
        f"{machine()}, {given.name}: {len(train)} + {len(held_out)} pictures, {len(train.classes)} classes, {ARCH}, "
        f"{given.epochs} epochs, {given.victims} victims, {best_device().describe()}, {busy:.0f} processor seconds"
    )
    figures = {"results": scored, "references": references}
    report(f"substitute_{given.name}" if kept else None, header, rows_of(scored, references), figures)
    if kept:
        draw(RESULTS / f"substitute_{given.name}.svg", scored, references)
    print(f"\n{time.monotonic() - began:.0f} s")


def peers_at_hand() -> bool:
    """Whether ART is installed."""
    return importlib.util.find_spec("art") is not None


if __name__ == "__main__":
    main()
