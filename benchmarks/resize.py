"""How an oracle makes pictures small: do probes find it, and what does a wrong guess cost a substitute?

Run: python benchmarks/resize.py default [--work DIR] [--epochs 40] [--jobs 2]
     python benchmarks/resize.py PATH-TO-PHOTOS --name trashnet

A victim for each filter, trained with pictures that this filter made small. Eight pictures and their probes are asked,
in full size, through JPEG. Then, for three filters, a substitute from one answer for each training picture that makes
pictures small by area, and one with the victim's filter; L2 on held-out pictures, beside that of the victim itself when
it is shown what area makes of them. Every training is a file in --work; the same command goes on.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import numpy.typing as npt
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import machine, report
from benchmarks.networks import ARCH, keep, open_network
from pi_agent.contract.files import atomic_write, make_folder, sha256_hex
from pi_agent.contract.manifest import RESIZE_FILTERS, InputSpec
from pi_agent.contract.metrics import mean_l2
from pi_agent.contract.transfer_set import TransferItem, safe_members, write_transfer_set
from pi_agent.prepare import decode_query, encode_query, prepare_bytes, resample
from training_host.attacks.resize_probes import LOOKED_AT, choose_pictures, make_probes
from training_host.attacks.resize_verdict import ResizeVerdict, judge_probes
from training_host.data.arrays import LabelledSet, ScoredSet
from training_host.data.batch import write_batch
from training_host.data.pool import read_pool
from training_host.data.sources import HELD_OUT, TRAIN, Picture, class_names, find_pictures
from training_host.data.waste import CLASSES, render
from training_host.training.device import best_device
from training_host.training.distill import distill
from training_host.training.evaluate import predict
from training_host.training.loop import Recipe
from training_host.training.supervised import train_classifier
from training_host.training.teaching import Teaching

SIZE = InputSpec().size
SUBSTITUTES = ("bicubic", "linear", "nearest")
STEPS, PICTURES, AT_ONCE = 1_500, 8, 4
Say = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
ANSWERS: dict[str, Say] = {
    "scores": lambda scores: scores,
    "two decimals": lambda scores: scores.round(2) / scores.round(2).sum(),
    "labels": lambda scores: np.eye(len(scores), dtype=np.float32)[scores.argmax()],
}


@dataclass(frozen=True)
class Bench:
    """Pictures of one data set, as every filter makes them, and where finished work lies."""

    name: str
    work: Path
    epochs: int

    def prepare(self, pictures: Sequence[Picture], jobs: int) -> None:
        """Make all pictures small in every way, once."""
        if self._file.exists():
            return
        classes = class_names(pictures)
        parts: dict[str, npt.NDArray[np.generic]] = {"classes": np.array(classes)}
        for part in (TRAIN, HELD_OUT):
            own = [p for p in pictures if p.part == part]
            small = joblib.Parallel(jobs)(joblib.delayed(smaller)(prepare_bytes(p.read(), p.name).jpeg) for p in own)
            parts[part] = np.stack(small, axis=1)
            parts[f"{part}-labels"] = np.array([classes.index(p.label) for p in own])
        with atomic_write(self._file) as stream:
            np.savez(stream, **parts)

    @property
    def _file(self) -> Path:
        return self.work / f"{self.name}-pictures.npz"

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(map(str, np.load(self._file, allow_pickle=False)["classes"]))

    def pictures(self, part: str, seen: str) -> LabelledSet:
        """One part as the filter `seen` makes it."""
        content = np.load(self._file, allow_pickle=False)
        images, labels = content[part][RESIZE_FILTERS.index(seen)], content[f"{part}-labels"]
        return LabelledSet(images, labels, self.classes, ("",) * len(images))

    def victim(self, name: str) -> nn.Module:
        """The victim of a filter; trained once."""
        data, recipe = self.pictures(TRAIN, name), Recipe(self.epochs, seed=0)
        place = self.work / f"{self.name}-victim-{name}-{self.epochs}.safetensors"
        keep(place, lambda kept: train_classifier(ARCH, data, recipe, best_device(), checkpoint=kept))
        return open_network(place, len(self.classes))

    def substitute(self, name: str, seen: str) -> nn.Module:
        """A substitute of the victim of `name` that makes pictures small with `seen`; trained once."""
        answers = predict(self.victim(name), self.pictures(TRAIN, name).images, best_device())
        data = ScoredSet(self.pictures(TRAIN, seen).images, answers, self.classes)
        recipe, teaching = Recipe(max(1, STEPS * 64 // len(answers)), seed=50), Teaching("log-scores")
        place = self.work / f"{self.name}-substitute-{name}-{seen}-{self.epochs}.safetensors"
        keep(place, lambda kept: distill(ARCH, data, recipe, best_device(), teaching=teaching, checkpoint=kept))
        return open_network(place, len(self.classes))

    def verdicts(self, batch: Path, name: str, say: Say) -> tuple[list[ResizeVerdict], ...]:
        """With four pictures at a time, and with one."""
        queries = [jpeg for member, jpeg in safe_members(batch, 1 << 20) if member.endswith(".jpg")]
        seen = np.stack([resample(decode_query(jpeg, "probe"), name, SIZE) for jpeg in queries])
        items = [
            TransferItem(sha256_hex(jpeg), jpeg, self.classes, say(scores)[None])
            for jpeg, scores in zip(queries, predict(self.victim(name), seen, best_device()), strict=True)
        ]
        each, found, night = len(RESIZE_FILTERS) + 1, [], self.work / f"{self.name}-night.tar"
        for at_once in (AT_ONCE, 1):
            found.append([])
            for start in range(0, len(items), each * at_once):
                write_transfer_set(night, {}, items[start : start + each * at_once])
                found[-1].append(judge_probes(batch, [night]))
        return tuple(found)

    def costs(self, name: str) -> dict[str, float]:
        """L2 on held-out pictures: substitutes of either filter, and the victim itself with the wrong one."""
        device, owner = best_device(), self.victim(name)
        truth = predict(owner, self.pictures(HELD_OUT, name).images, device)

        def l2(network: nn.Module, seen: str) -> float:
            return mean_l2(truth, predict(network, self.pictures(HELD_OUT, seen).images, device))

        return {seen: l2(self.substitute(name, seen), seen) for seen in ("area", name)} | {"itself": l2(owner, "area")}


def smaller(jpeg: bytes) -> npt.NDArray[np.uint8]:
    """One picture as every filter makes it: uint8 (filters, 64, 64, 3)."""
    pixels = decode_query(jpeg, "a picture")
    return np.stack([resample(pixels, name, SIZE) for name in RESIZE_FILTERS])


def rendered() -> list[Picture]:
    """The default data, 1,260 pictures to train with and 1,200 held out; rendered when they are read."""
    return [
        Picture(f"{part}-{number}-{index}", name, part, partial(_render, name, (seed, number, index)))
        for seed, (part, count) in enumerate({TRAIN: 105, HELD_OUT: 100}.items())
        for index in range(count)
        for number, name in enumerate(CLASSES)
    ]


def _render(name: str, seed: tuple[int, ...]) -> bytes:
    return encode_query(render(name, np.random.default_rng(seed)))


def main() -> None:
    """Victims, probes, substitutes, table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", help="'default', or a folder <class>/*.jpg")
    parser.add_argument("--name", default="default")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "magpie-resize-bench")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    pictures = rendered() if given.data == "default" else find_pictures(Path(given.data))
    bench, run = Bench(given.name, make_folder(given.work), given.epochs), joblib.Parallel(given.jobs)
    bench.prepare(pictures, given.jobs)
    run(joblib.delayed(bench.victim)(name) for name in RESIZE_FILTERS)
    run(joblib.delayed(bench.substitute)(name, seen) for name in SUBSTITUTES for seen in ("area", name))

    batch, rng = bench.work / f"{bench.name}-probes.tar", np.random.default_rng(0)
    some = [pictures[int(i)] for i in rng.permutation(len(pictures))[:LOOKED_AT]]
    asked = read_pool(some, InputSpec())
    write_batch(batch, make_probes(asked, choose_pictures(asked, PICTURES, rng), SIZE, rng))
    rows, figures = [], {}
    for name in RESIZE_FILTERS:
        told = {kind: bench.verdicts(batch, name, say) for kind, say in ANSWERS.items()}
        distances = told["scores"][0][0].distances
        near = sorted(distances.values())
        counts = {kind: [sum(v.filter == name for v in some) for some in each] for kind, each in told.items()}
        wrong = {k: [sum(v.filter not in (name, None) for v in some) for some in each] for k, each in told.items()}
        shown = ", ".join(f"{kind} {a} of {PICTURES // AT_ONCE} / {b} of {PICTURES}" for kind, (a, b) in counts.items())
        false = ", ".join(f"{kind} {a} / {b}" for kind, (a, b) in wrong.items() if a or b) or "none"
        rows.append((f"victim: {name}", f"found: {shown}; wrong: {false}", f"L2 {near[0]:.3f}, next {near[1]:.3f}"))
        figures[name] = {"found": counts, "wrong": wrong, "distances": distances}
    for name in SUBSTITUTES:
        costs = bench.costs(name)
        shown = ", ".join(f"{seen} L2 {costs[seen]:.3f}" for seen in ("area", name))
        rows.append((f"substitute of {name}", shown, f"the victim itself, by area: L2 {costs['itself']:.3f}"))
        figures[f"substitute of {name}"] = costs
    train, held_out = (sum(p.part == part for p in pictures) for part in (TRAIN, HELD_OUT))
    header = f"{machine()}, {given.name}: {train} + {held_out} pictures, {ARCH}, {given.epochs} epochs; "
    report(f"resize_{given.name}", f"{header}found with {AT_ONCE} pictures / with one", rows, figures)


if __name__ == "__main__":
    main()
