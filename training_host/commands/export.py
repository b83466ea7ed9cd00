"""`train-host export`: ONNX for the Pi."""

from __future__ import annotations

from pathlib import Path

import click

from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.output import emit
from training_host.artifacts import load_network, save_model
from training_host.commands.options import json_option
from training_host.data.arrays import load_labelled, load_transfer_sets
from training_host.data.sources import TRAIN, find_pictures
from training_host.jobs import int8_job, open_output

_CALIBRATION_IMAGES = 200


@click.command(epilog="Example: train-host export substitute --int8 --calibration night.tar --out substitute-int8")
@click.argument("model", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--int8", is_flag=True, help="Quantise to int8 (static QDQ, per channel).")
@click.option("--calibration", type=click.Path(path_type=Path, exists=True), help="Pictures for int8: data or .tar.")
@click.option("--opset", type=click.IntRange(18, 23), default=18, show_default=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Default: MODEL-onnx or MODEL-int8.")
@json_option
def command(model: Path, int8: bool, calibration: Path | None, opset: int, out: Path | None, as_json: bool) -> None:
    """Export MODEL to ONNX, weights inside, and check it against torch."""
    net, manifest = load_network(model)
    target = open_output(out or model.with_name(f"{model.name}-{'int8' if int8 else 'onnx'}"))
    if int8:
        if calibration is None:
            raise RefusedInput(path="--int8", reason="needs pictures", hint="give --calibration DATA or a transfer set")
        if calibration.suffix == ".tar":
            images = load_transfer_sets([calibration], manifest.input, _CALIBRATION_IMAGES).images
        else:
            pictures = [p for p in find_pictures(calibration) if p.part == TRAIN]
            step = max(1, len(pictures) // _CALIBRATION_IMAGES)
            images = load_labelled(pictures[::step], manifest.classes, manifest.input).images
        written = int8_job(model, images, target)
    else:
        provenance, metrics = manifest.provenance, manifest.metrics
        written = save_model(
            target,
            net,
            manifest.arch,
            manifest.classes,
            manifest.input,
            provenance=provenance,
            metrics=metrics,
            opset=opset,
        )
    size = (target / "model.onnx").stat().st_size
    data = {"path": str(target), "onnx_sha256": written.onnx_sha256, "bytes": size, "form": "int8" if int8 else "fp32"}
    emit("export", data, [f"{target / 'model.onnx'}: {size // 1024} KiB, {data['form']}"], as_json=as_json)
