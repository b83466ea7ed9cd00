"""How an oracle makes pictures small: do probes find it, and what does a wrong guess cost a substitute?

Run: python benchmarks/resize.py [--work DIR] [--epochs 40] [--jobs 2]

A victim for each filter, trained with pictures that this filter made small. Eight pictures and their probes are asked,
in full size, through JPEG. Then, for three filters, a substitute from 1,260 answers that makes pictures small by area,
and one with the victim's filter; held-out pictures, points against the victim that was trained for area. Every training
is a file in --work; the same command goes on.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import machine, report
from benchmarks.networks import ARCH, keep, open_network
from pi_agent.contract.files import atomic_write, make_folder, sha256_hex
from pi_agent.contract.manifest import RESIZE_FILTERS, InputSpec
from pi_agent.contract.metrics import mean_l2, points
from pi_agent.contract.transfer_set import TransferItem, safe_members, write_transfer_set
from pi_agent.prepare import decode_query, encode_query, resample
from training_host.attacks.resize_probes import choose_pictures, make_probes
from training_host.attacks.resize_verdict import ResizeVerdict, judge_probes
from training_host.data.arrays import LabelledSet, ScoredSet
from training_host.data.batch import write_batch
from training_host.data.pool import list_pool, read_pool
from training_host.data.waste import CLASSES, render
from training_host.training.device import best_device
from training_host.training.distill import distill
from training_host.training.evaluate import predict
from training_host.training.loop import Recipe
from training_host.training.supervised import train_classifier
from training_host.training.teaching import Teaching

SIZE = InputSpec().size
PER_CLASS = {"train": 105, "held-out": 100}
SUBSTITUTES = ("bicubic", "linear", "nearest")
STEPS, PICTURES, AT_ONCE = 1_500, 8, 4
Say = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
ANSWERS: dict[str, Say] = {
    "scores": lambda scores: scores,
    "two decimals": lambda scores: scores.round(2),
    "labels": lambda scores: np.eye(len(scores), dtype=np.float32)[scores.argmax()],
}


def smaller(seed: int, number: int, index: int) -> npt.NDArray[np.uint8]:
    """One rendered picture, through JPEG, as every filter makes it: uint8 (filters, 64, 64, 3)."""
    pixels = decode_query(encode_query(render(CLASSES[number], np.random.default_rng([seed, number, index]))), "render")
    return np.stack([resample(pixels, name, SIZE) for name in RESIZE_FILTERS])


def rendered(work: Path, jobs: int) -> dict[str, npt.NDArray[np.uint8]]:
    """For either part uint8 (filters, n, 64, 64, 3)."""
    place = work / "resize.npz"
    if not place.exists():
        run, found = joblib.Parallel(jobs), {}
        for seed, (part, count) in enumerate(PER_CLASS.items()):
            ids = [(number, index) for index in range(count) for number in range(len(CLASSES))]
            found[part] = np.stack(run(joblib.delayed(smaller)(seed, *each) for each in ids), axis=1)
        with atomic_write(place) as stream:
            np.savez(stream, **found)
    content = np.load(place, allow_pickle=False)
    return {part: content[part] for part in PER_CLASS}


def victim(work: Path, name: str, epochs: int) -> Path:
    """The victim of a filter; trained once."""
    images = np.load(work / "resize.npz", allow_pickle=False)["train"][RESIZE_FILTERS.index(name)]
    data = LabelledSet(images, np.arange(len(images)) % len(CLASSES), CLASSES, ("",) * len(images))
    place, recipe = work / f"resize-victim-{name}-{epochs}.safetensors", Recipe(epochs, seed=0)
    return keep(place, lambda kept: train_classifier(ARCH, data, recipe, best_device(), checkpoint=kept))


def substitute(work: Path, name: str, seen: str, epochs: int) -> Path:
    """A substitute of the victim of `name` that makes pictures small with `seen`; trained once."""
    images, device = np.load(work / "resize.npz", allow_pickle=False)["train"], best_device()
    owner = open_network(victim(work, name, epochs), len(CLASSES))
    answers = predict(owner, images[RESIZE_FILTERS.index(name)], device)
    data = ScoredSet(images[RESIZE_FILTERS.index(seen)], answers, CLASSES)
    recipe, teaching = Recipe(max(1, STEPS * 64 // len(answers)), seed=50), Teaching("log-scores")
    place = work / f"resize-substitute-{name}-{seen}-{epochs}.safetensors"
    return keep(place, lambda kept: distill(ARCH, data, recipe, device, teaching=teaching, checkpoint=kept))


def verdicts(work: Path, batch: Path, name: str, epochs: int, say: Say) -> tuple[list[ResizeVerdict], ...]:
    """With four pictures at a time, and with one."""
    owner = open_network(victim(work, name, epochs), len(CLASSES))
    queries = [jpeg for member, jpeg in safe_members(batch, 1 << 20) if member.endswith(".jpg")]
    seen = np.stack([resample(decode_query(jpeg, "probe"), name, SIZE) for jpeg in queries])
    items = [
        TransferItem(sha256_hex(jpeg), jpeg, CLASSES, say(scores)[None])
        for jpeg, scores in zip(queries, predict(owner, seen, best_device()), strict=True)
    ]
    each, found = len(RESIZE_FILTERS) + 1, []
    for at_once in (AT_ONCE, 1):
        found.append([])
        for start in range(0, len(items), each * at_once):
            night = work / f"resize-night-{name}.tar"
            write_transfer_set(night, {}, items[start : start + each * at_once])
            found[-1].append(judge_probes(batch, [night]))
    return tuple(found)


def main() -> None:
    """Victims, probes, substitutes, table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "magpie-resize-bench")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    work, device, run = make_folder(given.work), best_device(), joblib.Parallel(given.jobs)
    held_out = rendered(work, given.jobs)["held-out"]
    run(joblib.delayed(victim)(work, name, given.epochs) for name in RESIZE_FILTERS)
    pairs = [(name, seen) for name in SUBSTITUTES for seen in ("area", name)]
    run(joblib.delayed(substitute)(work, *pair, given.epochs) for pair in pairs)

    pool, batch, rng = make_folder(work / "pool"), work / "probes.tar", np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        picture = encode_query(render(name, np.random.default_rng([7, number])))
        (pool / f"{name}.jpg").write_bytes(picture)
    asked = read_pool(list_pool(pool), InputSpec())
    write_batch(batch, make_probes(asked, choose_pictures(asked, PICTURES, rng), SIZE, rng))

    rows, figures = [], {}
    for name in RESIZE_FILTERS:
        told = {kind: verdicts(work, batch, name, given.epochs, say) for kind, say in ANSWERS.items()}
        first = told["scores"][0][0]
        near = sorted(first.distances.values())
        counts = {kind: [sum(v.filter == name for v in some) for some in each] for kind, each in told.items()}
        wrong = sum(v.filter not in (name, None) for each in told.values() for some in each for v in some)
        shown = ", ".join(f"{kind} {a} of {PICTURES // AT_ONCE} / {b} of {PICTURES}" for kind, (a, b) in counts.items())
        rows.append((f"victim: {name}", f"found: {shown}; wrong {wrong}", f"L2 {near[0]:.3f}, next {near[1]:.3f}"))
        figures[name] = {"found": counts, "wrong": wrong, "distances": first.distances}

    def scores(place: Path, seen: str) -> npt.NDArray[np.float32]:
        return predict(open_network(place, len(CLASSES)), held_out[RESIZE_FILTERS.index(seen)], device)

    stranger = scores(victim(work, "area", given.epochs), "area")
    for name in SUBSTITUTES:
        owner = scores(victim(work, name, given.epochs), name)
        l2 = {seen: mean_l2(owner, scores(substitute(work, name, seen, given.epochs), seen)) for seen in ("area", name)}
        base = mean_l2(owner, stranger)
        shown = ", ".join(f"{seen} L2 {x:.3f} ({points(x, base):+.0f} points)" for seen, x in l2.items())
        rows.append((f"substitute of {name}", shown, f"stranger L2 {base:.3f}"))
        figures[f"substitute of {name}"] = {"stranger": base, **l2}
    header = f"{machine()}, {ARCH}, {given.epochs} epochs; found with {AT_ONCE} pictures / with one"
    report("resize", header, rows, figures)


if __name__ == "__main__":
    main()
