"""The model folder: `model.safetensors`, `model.onnx`, `manifest.json`; written whole, checked when read."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import nn

from pi_agent import __version__
from pi_agent.contract.errors import RefusedModel
from pi_agent.contract.files import atomic_write, make_folder, read_limited, sha256_hex
from pi_agent.contract.manifest import InputSpec, Manifest, load_manifest, save_manifest
from training_host.export.onnx import to_onnx
from training_host.nets.build import build_net

WEIGHTS, ONNX = "model.safetensors", "model.onnx"
MAX_MODEL_BYTES = 512 * 1024 * 1024


def save_model(
    folder: Path,
    model: nn.Module,
    arch: str,
    classes: tuple[str, ...],
    spec: InputSpec,
    *,
    provenance: dict[str, Any],
    metrics: dict[str, Any],
    opset: int = 18,
) -> Manifest:
    """Write weights, ONNX (parity checked) and manifest; the manifest last, so that a half-written folder has none."""
    make_folder(folder)
    model = model.to("cpu").eval()
    weights = safetensors.torch.save({k: v.contiguous() for k, v in model.state_dict().items()})
    onnx = to_onnx(model, spec, opset)
    for name, data in ((WEIGHTS, weights), (ONNX, onnx)):
        with atomic_write(folder / name) as stream:
            stream.write(data)
    manifest = Manifest(
        name=folder.name,
        arch=arch,
        classes=classes,
        onnx_sha256=sha256_hex(onnx),
        input=spec,
        opset=opset,
        width=getattr(model, "width", 0),
        weights_sha256=sha256_hex(weights),
        provenance={"made_by": f"train-host {__version__}", "made_at": _now(), **provenance},
        metrics=metrics,
    )
    save_manifest(folder, manifest)
    return manifest


def save_variant(folder: Path, base: Manifest, onnx: bytes, **changes: Any) -> Manifest:
    """Write a folder that holds another ONNX form of a model (int8, say), with the base's manifest adjusted."""
    make_folder(folder)
    with atomic_write(folder / ONNX) as stream:
        stream.write(onnx)
    provenance = {**base.provenance, "made_at": _now(), **changes.pop("provenance", {})}
    manifest = replace(
        base, name=folder.name, onnx_sha256=sha256_hex(onnx), weights_sha256="", provenance=provenance, **changes
    )
    save_manifest(folder, manifest)
    return manifest


def load_network(folder: Path) -> tuple[nn.Module, Manifest]:
    """The torch network of a model folder, in eval mode. Raises `RefusedModel` (65)."""
    manifest = load_manifest(folder)
    data = read_limited(folder / WEIGHTS, MAX_MODEL_BYTES)
    if sha256_hex(data) != manifest.weights_sha256:
        raise RefusedModel(path=folder / WEIGHTS, reason="not the weights that the manifest names", hint="export again")
    model = build_net(manifest.arch, len(manifest.classes), seed=0)
    try:
        model.load_state_dict(safetensors.torch.load(data))
    except (RuntimeError, safetensors.SafetensorError) as exc:
        reason = f"the weights do not fit {manifest.arch} ({str(exc).splitlines()[0]})"
        raise RefusedModel(path=folder / WEIGHTS, reason=reason) from exc
    return model.eval(), manifest


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def open_network(folder: Path, arch: str, classes: tuple[str, ...]) -> nn.Module:
    """The torch network of a model folder, to go on from. Raises `RefusedModel` (65), also for another architecture or
    other classes than these."""
    network, manifest = load_network(folder)
    if (manifest.arch, manifest.classes) != (arch, classes):
        reason = f"it is a {manifest.arch} of {len(manifest.classes)} classes, not a {arch} of these {len(classes)}"
        raise RefusedModel(path=folder, reason=reason, hint="start from a model of the same architecture and classes")
    return network
