"""What an owner hands in, or keeps, beside a marked model: trigger pictures, two scripts, the report.

The manifest is the end of a training, so these come after it. Each appears whole, by a rename, and none is ever
overwritten: a run that ended between the two is completed by the same command, and by no other.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pi_agent.contract.claim import WatermarkKey
from pi_agent.contract.errors import CannotCreate, RefusedInput, from_write_error
from pi_agent.contract.files import atomic_write, sync_folder
from pi_agent.contract.manifest import FILE_NAME, Manifest, load_manifest
from pi_agent.contract.strict import as_mapping
from training_host.data.arrays import LabelledSet
from training_host.jobs import check_output
from training_host.report.mark_page import write_mark_report
from training_host.watermarks.claim import as_embedded
from training_host.watermarks.krc import KrcSettings
from training_host.watermarks.scripts import Embedding, evaluate_script, train_script
from training_host.watermarks.trigger_files import Triggers, write_triggers

TRIGGERS, TRAIN, EVALUATE, REPORT = NAMES = ("triggers", "train.sh", "evaluate.sh", "report.html")
_STAGE = ".deliverables.part"


def missing(folder: Path) -> list[str]:
    """The names of deliverables that a model folder does not have."""
    return [name for name in NAMES if not os.path.lexists(folder / name)]


def begin(embedding: Embedding, key: WatermarkKey) -> Manifest | None:
    """A manifest where the same embedding is finished and only deliverables are missing, or None: a folder to be made.

    `key`: as it was loaded. Raises `CannotCreate` (73) where any other model is, and where a file of the owner's has
    the name of a deliverable.
    """
    out = embedding.out
    if not (out / FILE_NAME).exists():
        taken = [name for name in NAMES if os.path.lexists(out / name)]
        if taken:
            hint = "give another --out, or move it away: nothing is overwritten"
            raise CannotCreate(path=out / taken[0], reason="a file is there already", hint=hint)
    if not (out / FILE_NAME).exists() or not missing(out):
        check_output(out)
        return None
    try:
        manifest = load_manifest(out)
        other = _difference(embedding, key, manifest)
    except RefusedInput as exc:
        raise _not_the_same(out, str(exc.fields["reason"])) from exc
    if other:
        raise _not_the_same(out, f"made with {other}")
    return manifest


def check_data(embedding: Embedding, key: WatermarkKey, pictures: int, manifest: Manifest) -> None:
    """The rest of `begin`, once the data is read and `key` bound: as many training `pictures`, the same carriers.

    Raises `CannotCreate` (73).
    """
    marked = manifest.provenance["watermark"]["commitment"]
    if pictures != manifest.provenance.get("pictures") or key.commitment() != marked:
        raise _not_the_same(embedding.out, "made from other pictures")


def deliver(
    embedding: Embedding, key: WatermarkKey, train: LabelledSet, held_out: LabelledSet, *, completed: bool
) -> dict[str, str]:
    """Write what is missing, and return all paths for `--json`. `completed`: the commitment lies in the model folder.

    Raises `RefusedModel` (65) where key and folder do not belong together, `StorageError` (74).
    """
    out = embedding.out
    manifest = load_manifest(out)
    key, carriers = as_embedded(key, manifest, out)
    triggers = Triggers(key, carriers)
    with _stage(out) as stage:
        write_triggers(stage / TRIGGERS, triggers, manifest.onnx_sha256)
        _write(stage / TRAIN, train_script(embedding))
        _write(stage / EVALUATE, evaluate_script(embedding, completed=completed))
        write_mark_report(stage / REPORT, embedding, triggers, train, held_out, completed=completed)
        for name in missing(out):
            os.rename(stage / name, out / name)
        sync_folder(out)
    fields = ("triggers", "train_script", "evaluate_script", "report")
    return {field: str(out / name) for field, name in zip(fields, NAMES, strict=True)}


def _difference(embedding: Embedding, key: WatermarkKey, manifest: Manifest) -> str:
    """What the finished model was made with that this call does not say; empty where there is nothing.

    Raises `RefusedModel` (65) where it was marked with another key, or not at all.
    """
    bound, _ = as_embedded(key, manifest, embedding.out)
    made = manifest.provenance
    start = load_manifest(embedding.start).onnx_sha256 if embedding.start else None
    settings = {name: made["watermark"].get(name) for name in as_mapping(KrcSettings())}
    differs = {
        "another --arch": manifest.arch != embedding.arch,
        "another --beacon-value": bound.beacon_value != embedding.beacon_value,
        "another --start": made.get("started_from") != start,
        "other --epochs or another --seed": made.get("recipe") != as_mapping(embedding.recipe),
        "other settings of the mark, by another version": settings != as_mapping(KrcSettings()),
    }
    return next((what for what, so in differs.items() if so), "")


def _not_the_same(out: Path, reason: str) -> CannotCreate:
    hint = f"give another --out; its first command adds what is missing in it: {', '.join(missing(out))}"
    return CannotCreate(path=out, reason=f"a finished model is there already: {reason}", hint=hint)


@contextmanager
def _stage(out: Path) -> Iterator[Path]:
    """A folder of the owner's only, on the same file system; what an earlier run left in it is thrown away."""
    stage = out / _STAGE
    shutil.rmtree(stage, ignore_errors=True)
    try:
        os.mkdir(stage, 0o700)
        yield stage
    except OSError as exc:
        raise from_write_error(exc, out) from exc
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _write(path: Path, script: str) -> None:
    with atomic_write(path, 0o755) as stream:
        stream.write(script.encode())
