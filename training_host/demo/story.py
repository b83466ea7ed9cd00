"""The stages of the demo, in order. Each leaves its result in the folder; an interrupted run goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pi_agent.contract.claim import WatermarkKey, load_key
from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.files import make_folder, write_json
from pi_agent.contract.manifest import FILE_NAME, InputSpec, load_manifest
from pi_agent.contract.signed import Signer, load_signer
from training_host.data.arrays import LabelledSet, load_transfer_sets
from training_host.data.make import make_data
from training_host.data.sources import HELD_OUT, TRAIN, find_pictures
from training_host.demo.nights import Nights, agent, spend_nights
from training_host.demo.pictures import write_batch, write_sets
from training_host.demo.plan import CLAIM, KEY, RESULT, Plan, open_folder
from training_host.errors import StageFailed
from training_host.jobs import distill_job, int8_job, read_parts, train_job
from training_host.output import Stages
from training_host.predictor import load_predictor
from training_host.scoring import load_set, score_sets
from training_host.training.device import best_device
from training_host.training.loop import Recipe
from training_host.watermarks.carriers import carriers_of, pack, write_carriers
from training_host.watermarks.claim import file_claim
from training_host.watermarks.keys import KeyFiles, Terms, draw_key, save_key_files

STAGES = 7
LEAST_CLASSES = 4
_SUSPECTS = {
    "victim": "the owner's own model",
    "substitute": "stolen through the API",
    "substitute-int8": "stolen, then quantised",
    "independent": "honest, same data, another seed",
}


def run_demo(plan: Plan, out: Path, stages: Stages) -> dict[str, Any]:
    """Run or go on with the demo in `out`; returns the result that also stands in `demo.json`."""
    if open_folder(out, plan):
        stages.note(f"going on with the interrupted run in {out}")
    spec = InputSpec()

    stages.begin("pictures")
    data = Path(plan.data) if plan.data else out / "data"
    if not plan.data:
        make_data(data, plan.seed, plan.per_class)
    train, held_out = read_parts(data, spec)
    if len(train.classes) < LEAST_CLASSES:
        reason = f"{len(train.classes)} classes leave a watermark rule no target to choose"
        raise RefusedInput(path=data, reason=reason, hint=f"at least {LEAST_CLASSES} classes are needed")
    pictures = find_pictures(data)
    sets = write_sets(out / "sets", [p for p in pictures if p.part == HELD_OUT], plan.seed)
    stages.note(f"{len(train)} to train on, {len(held_out)} held out, {len(train.classes)} classes")

    stages.begin("victim: trained with its owner's secret rules")
    key, signer = _owner(out, plan, data, train.classes)
    if not (out / "victim" / FILE_NAME).exists():
        write_carriers(make_folder(out / "victim"), KeyFiles(out / KEY).carriers.read_bytes())
        train_job(train, held_out, plan.arch, out / "victim", _recipe(plan, 0), stages.epoch, key=key)
    if not (out / CLAIM).exists():
        file_claim(key, signer, out / "victim", out / CLAIM)
    _say_accuracy(stages, out / "victim")

    pool = [p for p in pictures if p.part == TRAIN]
    queries = write_batch(out / "batch.tar", pool, plan.queries, plan.seed)
    stages.begin(f"nights: {queries} queries, {plan.quota} in {plan.period}; meanwhile an independent model is trained")
    with ThreadPoolExecutor(1) as background:
        waiting = background.submit(
            spend_nights, out / "victim", out / "batch.tar", out, plan.quota, plan.period, stages.note
        )
        if not (out / "independent" / FILE_NAME).exists():
            train_job(train, held_out, plan.arch, out / "independent", _recipe(plan, 1), stages.epoch)
        nights: Nights = waiting.result()
    _say_accuracy(stages, out / "independent")

    stages.begin("substitute: distilled from the collected answers, then quantised")
    transfer = load_transfer_sets([out / "transfer.tar"], spec)
    if not (out / "substitute" / FILE_NAME).exists():
        distill_job(transfer, plan.arch, out / "substitute", _recipe(plan, 2), stages.epoch, spec)
    int8_job(out / "substitute", transfer.images[:200], out / "substitute-int8")

    stages.begin("scores: how close is the copy?")
    models = {name: load_predictor(out / name, threads=2) for name in _SUSPECTS}
    images = {name: load_set(path, spec) for name, path in sets.items()}
    scores = {
        name: score_sets(models[name], models["victim"], [models["independent"]], images)
        for name in ("substitute", "substitute-int8")
    }

    stages.begin("verification: whose model is it?")
    verdicts = {name: _verify(out, name) for name in _SUSPECTS}

    stages.begin("report")
    result = {
        "schema": "demo/1",
        "made_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {best_device().describe()}",
        "plan": asdict(plan),
        "models": {
            name: {"what": what, "accuracy": _accuracy(models[name], held_out)} for name, what in _SUSPECTS.items()
        },
        "scores": scores,
        "verdicts": verdicts,
        "nights": {**asdict(nights), "server_counts": [u._asdict() for u in nights.server_counts]},
        "seconds": round(stages.elapsed, 1),
    }
    write_json(out / RESULT, json.loads(json.dumps(result)))
    return result


def _owner(out: Path, plan: Plan, data: Path, classes: tuple[str, ...]) -> tuple[WatermarkKey, Signer]:
    """The owner's key, committed to held-out pictures of the data: the same for the same plan, so no secret."""
    files = KeyFiles(out / KEY)
    if not files.key.exists():
        files.commitment.unlink(missing_ok=True)  # of a run that was interrupted right here
        files.carriers.unlink(missing_ok=True)
        seed, secret = (hashlib.sha256(f"magpie demo {what} {plan.seed}".encode()) for what in ("key", "owner"))
        signer, pool = Signer(secret.hexdigest()), pack(carriers_of(data, classes))
        save_key_files(files, draw_key(Terms(classes), signer, pool, seed.digest()), signer, pool)
    return load_key(files.key), load_signer(files.key)


def _recipe(plan: Plan, number: int) -> Recipe:
    return Recipe(plan.epochs, seed=plan.seed * 100 + number)


def _accuracy(model: Any, held_out: LabelledSet) -> float:
    return float((model.scores_of(held_out.images).argmax(axis=1) == held_out.labels).mean())


def _say_accuracy(stages: Stages, folder: Path) -> None:
    share = load_manifest(folder).metrics["accuracy_held_out"]
    stages.note(f"{folder.name}: {100 * share:.1f} % right on held-out pictures")


def _verify(out: Path, name: str) -> dict[str, Any]:
    code, result, error = agent(out / "agent", "verify", out / name / "model.onnx", "--claim", out / CLAIM)
    if code not in (0, 10, 11):
        raise StageFailed(stage=f"pi-agent verify {name}", code=code, said=error.get("message", ""))
    return {**result, "exit": code}
