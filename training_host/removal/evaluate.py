"""`watermark evaluate`, from the model folder to `results.json`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pi_agent import __version__
from pi_agent.contract.claim import WatermarkKey
from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.files import make_folder, write_json
from pi_agent.contract.manifest import Manifest
from pi_agent.contract.strict import Mismatch, build
from training_host.artifacts import load_network
from training_host.jobs import read_parts
from training_host.removal.judgement import Judge
from training_host.removal.run import jobs_of, run_suite
from training_host.removal.subject import Subject, digest_of
from training_host.removal.suites import SUITES
from training_host.removal.summary import summarise
from training_host.training.device import best_device
from training_host.training.loop import Recipe
from training_host.watermarks.claim import as_embedded
from training_host.watermarks.krc import KrcSettings

RESULTS = "results.json"
_LIKE_NEW = 60
"""Epochs of an honest training where the marked model was made from a trained one in a few."""


@dataclass(frozen=True)
class Plan:
    """What to run: a suite's name, runs of every attack, processes."""

    suite: str
    seeds: int
    processes: int


@dataclass(frozen=True)
class Opened:
    """A subject, with what the report says about it."""

    subject: Subject
    manifest: Manifest
    key: WatermarkKey
    data_sha256: str


def open_subject(model: Path, key: WatermarkKey, data: Path, epochs: int | None = None) -> Opened:
    """Read a marked model folder and its data; `epochs` instead of those in its recipe.

    Raises `RefusedModel` (65) where the model is not marked with this key, `RefusedInput` (65) for data of other
    classes or without held-out pictures.
    """
    network, manifest = load_network(model)
    key, _ = as_embedded(key, manifest, model)
    train, held_out = read_parts(data, manifest.input)
    if train.classes != manifest.classes:
        has, needs = ", ".join(train.classes), ", ".join(manifest.classes)
        raise RefusedInput(path=data, reason=f"its classes are not the model's: {has}", hint=f"the model has {needs}")
    recipe, digest = _recipe_of(manifest), digest_of(train, held_out)
    recipe = recipe if epochs is None else replace(recipe, epochs=epochs)
    subject = Subject(
        network=network,
        arch=manifest.arch,
        train=train,
        held_out=held_out,
        judge=Judge(KrcSettings(), key, held_out),
        recipe=recipe,
        device=best_device(),
        made_of=(manifest.weights_sha256, key.commitment(), key.beacon_value, digest),
        rules=key.rules,
    )
    return Opened(subject, manifest, key, digest)


def evaluate_mark(
    opened: Opened, plan: Plan, out: Path, done: Callable[[int, dict[str, Any]], None] = lambda total, result: None
) -> dict[str, Any]:
    """Run the suite, write `results.json` and return its content. `done`: number of jobs in all, one job's result.

    Raises as `run_suite`.
    """
    subject = opened.subject
    make_folder(out)
    jobs = jobs_of(SUITES[plan.suite], plan.seeds)
    results = run_suite(subject, jobs, out, plan.processes, lambda result: done(len(jobs), result))
    content = {
        "schema": "watermark-evaluate/1",
        "made_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "made_by": f"train-host {__version__}",
        "suite": plan.suite,
        "seeds": plan.seeds,
        "epochs": subject.recipe.epochs,
        "device": subject.device.describe(),
        "model": {
            "name": opened.manifest.name,
            "arch": opened.manifest.arch,
            "weights_sha256": opened.manifest.weights_sha256,
        },
        "commitment": opened.key.commitment(),
        "data_sha256": opened.data_sha256,
        "pictures": {"train": len(subject.train), "held_out": len(subject.held_out)},
        **summarise(results, opened.key.alpha),
    }
    write_json(out / RESULTS, content)
    return content


def _recipe_of(manifest: Manifest) -> Recipe:
    """The recipe of the marked model; of a new one where it went on from a trained model."""
    if manifest.provenance.get("started_from"):
        return Recipe(_LIKE_NEW)
    try:
        return build(Recipe, manifest.provenance.get("recipe", {}))
    except Mismatch:
        return Recipe(_LIKE_NEW)  # made by another version
