"""File a claim: bind a key to a model and to the carriers that a suspect will be tested with."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from pi_agent.contract.claim import Claim, WatermarkKey, save_claim
from pi_agent.contract.errors import RefusedModel
from pi_agent.contract.files import atomic_write, read_limited, sha256_hex
from pi_agent.contract.manifest import load_manifest
from training_host.watermarks.carriers import FILE_NAME

_MAX_CARRIERS = 64 * 1024 * 1024


def file_claim(key: WatermarkKey, model: Path, out: Path) -> Claim:
    """Write the claim to `out` and the model's carriers beside it. Raises `RefusedModel` (65) when they do not fit."""
    manifest = load_manifest(model)
    if manifest.classes != key.classes:
        raise RefusedModel(path=model, reason="its classes are not the key's", hint="use the key that was embedded")
    if not (model / FILE_NAME).is_file():
        raise RefusedModel(path=model, reason=f"no {FILE_NAME} in it", hint="make it with train-host watermark embed")
    carriers = read_limited(model / FILE_NAME, _MAX_CARRIERS)
    beside = out.parent / FILE_NAME
    if not (beside.exists() and beside.samefile(model / FILE_NAME)):
        with atomic_write(beside) as stream:
            stream.write(carriers)
    claim = Claim(
        key=key,
        commitment=key.commitment(),
        model_sha256=manifest.onnx_sha256,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        carriers=FILE_NAME,
        carriers_sha256=sha256_hex(carriers),
        input=manifest.input,
    )
    save_claim(out, claim)
    return claim
