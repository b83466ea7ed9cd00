"""What the commands and the demo both do: read data, train, measure, write the model folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pi_agent.contract.claim import WatermarkKey, draw_rules
from pi_agent.contract.errors import CannotCreate, RefusedInput, RefusedModel
from pi_agent.contract.files import make_folder
from pi_agent.contract.manifest import FILE_NAME, InputSpec, Manifest, load_manifest
from pi_agent.contract.metrics import accuracy
from training_host.artifacts import open_network, save_model, save_variant
from training_host.data.arrays import LabelledSet, ScoredSet, load_labelled
from training_host.data.sources import HELD_OUT, TRAIN, class_names, find_pictures
from training_host.data.unasked import Extras
from training_host.export.quantize import to_int8
from training_host.own_networks import Own
from training_host.training.device import best_device
from training_host.training.distill import distill
from training_host.training.evaluate import predict
from training_host.training.loop import EpochReport, Recipe
from training_host.training.ranks import our_ranks
from training_host.training.supervised import train_classifier
from training_host.training.teaching import Teaching, loss_for
from training_host.watermarks.krc import KrcMark, KrcSettings
from training_host.watermarks.self_test import self_test

Progress = Callable[[EpochReport], None]
CHECKPOINT = "checkpoint.pt"
_LEAST_PICTURES = 64


def check_output(folder: Path) -> Path:
    """Whether a model folder can be made here, asked before the long work; nothing is made: what follows may refuse.

    Raises `CannotCreate` (73) where it cannot be, and where a finished model is: none is overwritten.
    """
    nearest = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    if not nearest.is_dir():
        raise CannotCreate(path=folder, reason=f"{nearest} is no folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise CannotCreate(path=folder, reason=f"no right to write in {nearest}")
    if os.path.lexists(folder / FILE_NAME):
        raise CannotCreate(
            path=folder, reason="a finished model is there already", hint="give another --out, or remove it"
        )
    return folder


def read_parts(
    data: Path, spec: InputSpec, progress: Callable[[int], None] = lambda count: None
) -> tuple[LabelledSet, LabelledSet]:
    """The training part and the held-out part of a data set. Raises `RefusedInput` (65) for too few pictures."""
    pictures = find_pictures(data)
    classes = class_names(pictures)
    train, held_out = (
        load_labelled([p for p in pictures if p.part == part], classes, spec, progress) for part in (TRAIN, HELD_OUT)
    )
    if len(classes) < 2 or len(train) < _LEAST_PICTURES or not len(held_out):
        reason = f"{len(train)} training and {len(held_out)} held-out pictures of {len(classes)} classes are too few"
        raise RefusedInput(path=data, reason=reason, hint=f"at least two classes and {_LEAST_PICTURES} pictures")
    return train, held_out


def train_job(
    train: LabelledSet,
    held_out: LabelledSet,
    arch: str,
    out: Path,
    recipe: Recipe,
    progress: Progress,
    *,
    spec: InputSpec | None = None,
    key: WatermarkKey | None = None,
    settings: KrcSettings | None = None,
    start: Path | None = None,
) -> Manifest:
    """Train a victim (with `key`, bound to its carriers: watermarked) or an independent model, and write its folder.

    `start`: a model folder to go on from. Raises `RefusedModel` (65) where it is of another architecture or classes.
    """
    network = open_network(start, arch, train.classes) if start else None
    make_folder(out)
    device, settings = best_device(), settings or KrcSettings()
    provenance: dict[str, Any] = {"recipe": asdict(recipe), "device": device.describe(), "pictures": len(train)}
    if start:
        provenance["started_from"] = load_manifest(start).onnx_sha256
    mark = None
    if key is not None:
        if key.classes != train.classes:
            raise RefusedInput(path="the key", reason="made for other classes", hint=f"the data has {train.classes}")
        mark = KrcMark(draw_rules(key), train, settings, device)
        provenance["watermark"] = {
            "scheme": key.generator,
            "commitment": key.commitment(),
            "committed_at": key.committed_at,
            "carriers_sha256": key.carriers,
            "beacon": key.beacon,
            "beacon_value": key.beacon_value,
            **asdict(settings),
        }
    # Under a name of its own: an interrupted embedding goes on with the same key and the same beginning only.
    names = [*([key.commitment()[:12]] if key else []), *([provenance["started_from"][:12]] if start else [])]
    checkpoint = out / "-".join([*names, CHECKPOINT])
    model = train_classifier(
        arch, train, recipe, device, mark=mark, start=network, checkpoint=checkpoint, progress=progress
    )
    our_ranks().part_company()
    metrics: dict[str, Any] = {
        "accuracy_train": round(accuracy(predict(model, train.images, device), train.labels), 4),
        "accuracy_held_out": round(accuracy(predict(model, held_out.images, device), held_out.labels), 4),
    }
    if key is not None:
        rng = np.random.default_rng(recipe.seed)
        evidence = self_test(partial(predict, model, device=device), key, held_out, rng)
        if evidence is not None:
            by_channel = {channel.name: channel.p_value for channel in evidence.channels}
            metrics |= {"rules_hit": evidence.hits, "mark_p_value": evidence.p_value, "mark_floor": evidence.floor}
            metrics["mark_channels"] = by_channel
    return save_model(out, model, arch, train.classes, spec or InputSpec(), provenance=provenance, metrics=metrics)


def spec_of(resize: str | None, folders: Sequence[Path]) -> InputSpec:
    """How pictures become a network's input: as in these model folders, else with the filter `resize`, else as usual.

    Raises `RefusedModel` (65) for the first folder that contradicts.
    """
    specs = [load_manifest(folder).input for folder in folders]
    spec = specs[0] if specs else InputSpec()
    spec = replace(spec, resize=resize or spec.resize)
    for folder, other in zip(folders, specs, strict=True):
        if other != spec:
            reason = f"it makes pictures small in another way: {other.resize}, not {spec.resize}"
            if other.resize == spec.resize:
                reason = "its input differs from that of the other models"
            hint = f"give models of one way, trained with the same --resize: {spec.resize}"
            raise RefusedModel(path=folder, reason=reason, hint=hint)
    return spec


def distill_job(
    transfer: ScoredSet,
    arch: str,
    out: Path,
    recipe: Recipe,
    progress: Progress,
    spec: InputSpec,
    *,
    teaching: Teaching | None = None,
    extras: Extras | None = None,
    start: Path | None = None,
    own: Own | None = None,
    asked: int | None = None,
) -> Manifest:
    """Train a substitute from collected answers and write its folder; only the first `asked` are the oracle's.

    `start`: a model folder, see `distill`. Raises `RefusedModel` (65) where it is of another architecture or other
    classes.
    """
    begun = open_network(start, arch, transfer.classes) if start else None
    make_folder(out)
    device, extras, own = best_device(), extras or Extras(), own or Own()
    teaching = teaching or Teaching(loss_for(transfer.scores))
    model = distill(
        arch,
        transfer,
        recipe,
        device,
        teaching=teaching,
        extras=extras,
        start=begun,
        own=own.networks,
        checkpoint=out / CHECKPOINT,
        progress=progress,
    )
    our_ranks().part_company()
    queries = len(transfer.images) if asked is None else asked
    told = slice(queries or None)
    scores = predict(model, transfer.images[told], device)
    agreement = float((scores.argmax(axis=1) == transfer.scores[told].argmax(axis=1)).mean())
    provenance = {
        "recipe": asdict(recipe),
        "teaching": asdict(teaching),
        "device": device.describe(),
        "queries": queries,
        "weighted": transfer.weights is not None,
        "answers": "labels" if np.isin(transfer.scores[told], (0, 1)).all() else "scores",
        "labels": 0 if extras.labels is None else int((extras.labels >= 0).sum()),
        "started_from": load_manifest(start).onnx_sha256 if start else None,
        "own": list(own.hashes),
        "own_trial": asdict(own.trial) if own.trial else None,
        "pool": 0 if extras.pool is None else len(extras.pool),
    }
    metrics = {"agreement_on_transfer_set": round(agreement, 4)}
    return save_model(out, model, arch, transfer.classes, spec, provenance=provenance, metrics=metrics)


def int8_job(model: Path, images: np.ndarray, out: Path) -> Manifest:
    """Write the int8 form of a model folder; `images` uint8 (n, height, width, 3) calibrate it."""
    base = load_manifest(model)
    quantised = to_int8((model / "model.onnx").read_bytes(), images, base.input)
    return save_variant(out, base, quantised, provenance={"quantised_from": base.onnx_sha256, "form": "int8 QDQ"})
