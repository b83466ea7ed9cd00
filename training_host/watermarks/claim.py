"""File a claim: bind a key to a model and to the carriers that a suspect will be tested with."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pi_agent.contract.claim import Claim, WatermarkKey, queries_per_rule, save_claim
from pi_agent.contract.errors import CannotCreate, ConfigError, RefusedModel
from pi_agent.contract.files import atomic_write, read_limited, sha256_hex
from pi_agent.contract.manifest import Manifest, load_manifest
from pi_agent.contract.signed import Signer
from training_host.watermarks.carriers import FILE_NAME, MAX_BYTES

_ONNX, _MAX_MODEL_BYTES = "model.onnx", 512 * 1024 * 1024


def file_claim(key: WatermarkKey, signer: Signer, model: Path, out: Path) -> Claim:
    """Write the signed claim to `out` and the model's carriers beside it.

    Raises `RefusedModel` (65) when key, carriers, beacon or ONNX file are not those of the embedding, `CannotCreate`
    (73) where another claim is, `ConfigError` (78) when the clock is wrong.
    """
    if os.path.lexists(out):
        hint = "its hash may be public already: choose another name"
        raise CannotCreate(path=out, reason="a file is there already", hint=hint)
    manifest = load_manifest(model)
    key, carriers = as_embedded(key, manifest, model)
    if sha256_hex(read_limited(model / _ONNX, _MAX_MODEL_BYTES)) != manifest.onnx_sha256:
        raise RefusedModel(path=model / _ONNX, reason="not the model that the manifest names", hint="export it again")
    try:
        claim = Claim(
            key=key,
            commitment=key.commitment(),
            model_sha256=manifest.onnx_sha256,
            committed_at=key.committed_at,
            created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            carriers=FILE_NAME,
            carriers_sha256=key.carriers,
            input=manifest.input,
            queries_per_rule=queries_per_rule(len(key.classes), key.rules),
        )
    except ValueError as exc:
        raise ConfigError(path="the claim", reason=str(exc), hint="set this machine's clock and try again") from exc
    _put_beside(out.parent / FILE_NAME, carriers)
    save_claim(out, claim, signer)
    return claim


def as_embedded(key: WatermarkKey, manifest: Manifest, model: Path) -> tuple[WatermarkKey, bytes]:
    """The key as it was bound when the model was trained, and the model's carriers.

    Raises `RefusedModel` (65) when it is another key, or when the carriers are not those of the embedding.
    """
    if manifest.classes != key.classes:
        raise RefusedModel(path=model, reason="its classes are not the key's", hint="use the key that was embedded")
    if not (model / FILE_NAME).is_file():
        raise RefusedModel(path=model, reason=f"no {FILE_NAME} in it", hint="make it with train-host watermark embed")
    carriers = read_limited(model / FILE_NAME, MAX_BYTES)
    mark: dict[str, Any] = {"commitment": None, "carriers_sha256": None, "beacon_value": "", "committed_at": ""}
    recorded = manifest.provenance.get("watermark")
    mark |= recorded if isinstance(recorded, dict) else {}
    if not recorded:
        raise RefusedModel(path=model, reason="it was not marked", hint="use the key that was embedded")
    if mark["carriers_sha256"] != sha256_hex(carriers):
        reason = f"its {FILE_NAME} is not the one that its rules were drawn from"
        raise RefusedModel(path=model, reason=reason, hint="put the original file back, or embed again")
    if key.beacon and not mark["beacon_value"]:
        reason = f"its manifest does not tell the value of the beacon that the key was committed to ({key.beacon})"
        raise RefusedModel(path=model, reason=reason, hint="the manifest was edited: embed again")
    try:
        bound = key.bound(sha256_hex(carriers), str(mark["beacon_value"]), str(mark["committed_at"]))
    except ValueError as exc:
        raise RefusedModel(path=model, reason=str(exc), hint="use the key that was embedded") from exc
    if mark["commitment"] != bound.commitment():
        raise RefusedModel(path=model, reason="it was marked with another key", hint="use the key that was embedded")
    return bound, carriers


def _put_beside(path: Path, carriers: bytes) -> None:
    if os.path.lexists(path):
        if path.is_file() and sha256_hex(path.read_bytes()) == sha256_hex(carriers):
            return
        reason = "the carriers of another claim are there"
        raise CannotCreate(path=path, reason=reason, hint="write the claim into a folder of its own")
    with atomic_write(path) as stream:
        stream.write(carriers)
