"""`train-host export`: ONNX for the Pi."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.manifest import Manifest, load_manifest
from pi_agent.contract.output import emit, table
from training_host.artifacts import load_network, save_model
from training_host.commands.options import json_option
from training_host.commands.score import named_folders
from training_host.export.forms import export_forms, pictures_for, points_against
from training_host.export.processor import FP16, FP32, INT8
from training_host.jobs import check_output


@click.command(epilog="Example: train-host export substitute --int8 --calibration night.tar --out substitute-int8")
@click.argument("model", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--int8", is_flag=True, help="Quantise to int8 (static QDQ, per channel).")
@click.option("--fp16", is_flag=True, help="Half precision inside: half the file, no faster on a CPU.")
@click.option(
    "--calibration",
    type=click.Path(path_type=Path, exists=True),
    help="Pictures for int8 and to compare the forms: data or .tar.",
)
@click.option(
    "--opset", type=click.IntRange(18, 23), default=18, show_default=True, help="Of the plain export from torch."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Default: MODEL-onnx, MODEL-int8 or MODEL-fp16. With both forms: a folder for the two.",
)
@click.option("--victim", type=click.Path(path_type=Path), help="For points of every form, as in `score`.")
@click.option("--independent", "independents", multiple=True, type=click.Path(path_type=Path), help="As in `score`.")
@click.option("--set", "sets", multiple=True, metavar="NAME=DIR", help="As in `score`.")
@json_option
def command(
    model: Path,
    int8: bool,
    fp16: bool,
    calibration: Path | None,
    opset: int,
    out: Path | None,
    victim: Path | None,
    independents: tuple[Path, ...],
    sets: tuple[str, ...],
    as_json: bool,
) -> None:
    """Export MODEL to ONNX, weights inside, and check it against torch; or write smaller forms of its ONNX file.

    A smaller form is compared with MODEL: scores, labels, time on this processor, and points if --victim, --independent
    and --set are given. The manifest of each says which form is the best on which processor.
    """
    forms = [name for name, wanted in ((FP16, fp16), (INT8, int8)) if wanted]
    scoring = (victim is not None, bool(independents), bool(sets))
    if any(scoring) and not all(scoring):
        raise click.UsageError("points need --victim, --independent and --set")
    if any(scoring) and not forms:
        raise click.UsageError("points are for --int8 and --fp16; of the plain export `train-host score` tells them")
    if not forms:
        _plain(model, check_output(out or model.with_name(f"{model.name}-onnx")), opset, as_json)
        return
    if calibration is None:
        raise RefusedInput(
            path=f"--{forms[-1]}", reason="needs pictures", hint="give --calibration DATA or a transfer set"
        )
    folders = named_folders(sets)
    points = None if victim is None else points_against(victim, independents, folders)
    alone = out is not None and len(forms) == 1
    targets = {form: out if alone and out else (out or model.parent) / f"{model.name}-{form}" for form in forms}
    pictures = pictures_for(calibration, load_manifest(model))
    written = export_forms(model, {form: check_output(path) for form, path in targets.items()}, pictures, points)
    metrics = written[forms[0]].metrics
    files = [_file(targets[form], manifest, form) for form, manifest in written.items()]
    compared = {key: metrics[key] for key in ("forms", "compared_on", "timed_on", "best_on")}
    emit("export", {**files[0], **compared, "written": files}, _lines(files, metrics, list(folders)), as_json=as_json)


def _plain(model: Path, target: Path, opset: int, as_json: bool) -> None:
    net, base = load_network(model)
    provenance, metrics = base.provenance, base.metrics
    written = save_model(
        target, net, base.arch, base.classes, base.input, provenance=provenance, metrics=metrics, opset=opset
    )
    file = _file(target, written, FP32)
    emit("export", file, [_line(file)], as_json=as_json)


def _file(folder: Path, manifest: Manifest, form: str) -> dict[str, Any]:
    size = (folder / "model.onnx").stat().st_size
    return {"path": str(folder), "onnx_sha256": manifest.onnx_sha256, "bytes": size, "form": form}


def _line(file: Mapping[str, Any]) -> str:
    return f"{Path(file['path']) / 'model.onnx'}: {file['bytes'] // 1024} KiB, {file['form']}"


def _lines(files: list[dict[str, Any]], metrics: Mapping[str, Any], sets: list[str]) -> list[str]:
    rows = []
    for name, figures in metrics["forms"].items():
        row = [name, f"{figures['bytes'] // 1024}", f"{figures['ms']:.2f}", f"{figures['ratio']:.2f}"]
        row += [f"{figures['max_difference']:.4f}", f"{figures['mean_difference']:.5f}"]
        rows.append(
            [*row, f"{100 * figures['agreement']:.1f} %", *(f"{figures['sets'][s]['points']:+.1f}" for s in sets)]
        )
    header = ["form", "KiB", "ms", "of fp32", "largest", "mean", "agreement", *(f"points {s}" for s in sets)]
    compared, timed = metrics["compared_on"], metrics["timed_on"]
    seen = "" if compared["apart_from_calibration"] else ", which calibrated int8 too"
    best = [f"{kind}: {found['form']} ({found['by']})" for kind, found in metrics["best_on"].items()]
    return [
        *table(rows, header),
        f"largest and mean: difference of a score to fp32's, on {compared['pictures']} pictures{seen}",
        f"ms: one picture, one thread, {timed['name']} ({timed['kind']})",
        f"best on {'; '.join(best)}",
        *(_line(file) for file in files),
    ]
