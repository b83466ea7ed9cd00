"""Write the owner's report on a marked model: one file, pictures inside, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from pi_agent.contract.claim import Evidence
from pi_agent.contract.claim.p_value import DECISIONS
from pi_agent.contract.files import atomic_write
from pi_agent.contract.manifest import Manifest
from pi_agent.contract.metrics import accuracy
from pi_agent.prepare import resize
from training_host.artifacts import load_network
from training_host.data.arrays import LabelledSet
from training_host.training.device import best_device
from training_host.training.evaluate import predict
from training_host.watermarks.base import ScoresOf
from training_host.watermarks.krc import KrcSettings
from training_host.watermarks.scripts import Embedding
from training_host.watermarks.self_test import self_test
from training_host.watermarks.trigger_files import Trigger, Triggers

CHANNELS = {
    "score-sum": ("composites", "answers to composites lean towards the targets of their rules"),
    "hints": ("hints", "answers to ordinary pictures lean towards the targets of the rules in which their class is"),
    "rule-hits": ("rules hit", "in so many rules the target is the favourite"),
}
GEOMETRIES = {
    "left-right": "left half, right half",
    "top-bottom": "upper half, lower half",
    "centre": "the second in the middle of the first",
}
_SIDE, _QUALITY = 104, 88


@dataclass(frozen=True)
class Measured:
    """Accuracies (0..1) on training and on held-out pictures by model, and the mark's own test.

    `evidence`: None where a class has no held-out picture to make composites of.
    """

    accuracies: Mapping[str, tuple[float, float]]
    evidence: Evidence | None


def measure(embedding: Embedding, triggers: Triggers, train: LabelledSet, held_out: LabelledSet) -> Measured:
    """Ask the finished model, and the one that it was made from, as `train_job` does: the same fresh composites.

    Raises `RefusedModel` (65).
    """
    device = best_device()
    models: dict[str, ScoresOf] = {}
    for name, folder in (("started from", embedding.start), ("marked", embedding.out)):
        if folder:
            models[name] = partial(predict, load_network(folder)[0], device=device)
    found = {
        name: (accuracy(scores_of(train.images), train.labels), accuracy(scores_of(held_out.images), held_out.labels))
        for name, scores_of in models.items()
    }
    rng = np.random.default_rng(embedding.recipe.seed)
    return Measured(found, self_test(models["marked"], triggers.key, held_out, rng))


def write_mark_report(
    path: Path,
    embedding: Embedding,
    triggers: Triggers,
    train: LabelledSet,
    held_out: LabelledSet,
    *,
    completed: bool,
) -> None:
    """Measure, and write the page to `path` (0600: it reveals the key). Names from data and paths are escaped.

    `completed`: the commitment lies in the model folder. Raises `RefusedModel` (65), `StorageError` (74).
    """
    _, manifest = load_network(embedding.out)
    measured = measure(embedding, triggers, train, held_out)
    evidence, key = measured.evidence, triggers.key
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("training_host.report", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("mark.html.j2").render(
        manifest=manifest,
        made=manifest.provenance,
        settings=_settings(manifest),
        embedding=embedding,
        key=key,
        completed=completed,
        pictures=(len(train), len(held_out)),
        accuracies=_accuracy_rows(measured.accuracies),
        evidence=evidence,
        verdict=evidence.verdict(key.alpha) if evidence else "",
        channels=_channel_rows(evidence) if evidence else [],
        rules=rule_rows(triggers, evidence),
    )
    with atomic_write(path, 0o600) as stream:
        stream.write(page.encode())


def rule_rows(triggers: Triggers, evidence: Evidence | None) -> list[dict[str, Any]]:
    """One row for every rule: what it says, a picture of it, and what the model did."""
    rows = []
    for number, rule in enumerate(triggers.rules):
        row: dict[str, Any] = {
            "number": number + 1,
            "first": rule.first,
            "second": rule.second,
            "geometry": GEOMETRIES[rule.geometry],
            "target": rule.target,
            "chance": 1 / len(rule.candidates(triggers.key.classes)),
            "strip": base64.b64encode(strip(triggers.of(number, 1)[0])).decode(),
        }
        if evidence:
            row |= {"share": evidence.share[number], "hit": evidence.hit[number]}
        rows.append(row)
    return rows


def strip(trigger: Trigger, side: int = _SIDE) -> bytes:
    """Two carriers and their composite, left to right, as JPEG of `side` by three times `side` pixels."""
    pictures = [resize(picture, (side, side)) for picture in (trigger.first, trigger.second, trigger.pixels)]
    buffer = io.BytesIO()
    Image.fromarray(np.hstack(pictures)).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def _channel_rows(evidence: Evidence) -> Sequence[tuple[str, str, str, str, bool]]:
    """Name, what it asks, p, the smallest p possible, and whether it takes part in the decision."""
    deciding = DECISIONS[evidence.decision]
    return [(*CHANNELS[c.name], f"{c.p_value:.2g}", f"{c.floor:.2g}", c.name in deciding) for c in evidence.channels]


def _accuracy_rows(accuracies: Mapping[str, tuple[float, float]]) -> Sequence[tuple[str, str, str, str]]:
    """Model, per cent right on training pictures, on held-out ones, and points against the model it started from."""
    base = accuracies.get("started from")
    rows = []
    for name, (seen, unseen) in accuracies.items():
        change = f"{100 * (unseen - base[1]):+.1f}" if base and name == "marked" else ""
        rows.append((name, f"{100 * seen:.1f} %", f"{100 * unseen:.1f} %", change))
    return rows


def _settings(manifest: Manifest) -> str:
    """The mark's hyper-parameters as the manifest has them."""
    recorded = manifest.provenance["watermark"]
    names = [field.name for field in fields(KrcSettings) if field.name in recorded]
    return ", ".join(f"{name.replace('_', ' ')} {recorded[name]}" for name in names)
