"""What the main job costs on this machine: one table, one JSON in `results/`. Ratios within one run.

Run: make bench
"""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import ROOT, machine, photos, report, seconds
from pi_agent.prepare import prepare_bytes
from training_host.data.arrays import LabelledSet
from training_host.data.waste import CLASSES
from training_host.training.device import Device, best_device
from training_host.training.loop import Recipe
from training_host.training.supervised import train_classifier


def bare_opencv(data: bytes) -> None:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    small = cv2.resize(pixels, (300, 300), interpolation=cv2.INTER_AREA)
    cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 95])


def preparation() -> tuple[str, str, str]:
    files = photos(60)
    ours = seconds(lambda: [prepare_bytes(f) for f in files]) / len(files)
    bare = seconds(lambda: [bare_opencv(f) for f in files]) / len(files)
    return ("prepare one photo", f"{1000 * ours:.2f} ms", f"{ours / bare:.2f} x bare OpenCV")


def start_up() -> tuple[str, str, str]:
    ours = seconds(
        lambda: subprocess.run([sys.executable, "-m", "pi_agent", "--help"], capture_output=True, check=True)
    )
    bare = seconds(lambda: subprocess.run([sys.executable, "-c", "import click"], capture_output=True, check=True))
    return ("pi-agent --help", f"{1000 * ours:.0f} ms", f"{ours / bare:.2f} x python -c 'import click'")


def verification() -> tuple[str, str, str]:
    model, claim = ROOT / "models" / "substitute" / "model.onnx", ROOT / "models" / "claim.json"
    line = [sys.executable, "-m", "pi_agent", "verify", str(model), "--claim", str(claim), "--json"]
    took = seconds(lambda: subprocess.run(line, capture_output=True, check=False))
    # Asked by a small process of its own: what is forked from this one counts torch's memory as its own.
    ask = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], capture_output=True); "
    ask += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    peak = subprocess.run([sys.executable, "-c", ask, *line], capture_output=True, text=True, check=True).stdout
    return ("pi-agent verify, 320 queries", f"{took:.2f} s", f"largest process {int(peak) / 1024:.0f} MB")


def training(device: Device) -> tuple[str, str, str]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (512, 64, 64, 3), dtype=np.uint8)
    data = LabelledSet(images, rng.integers(0, 12, 512), CLASSES, ("",) * 512)
    rates = {}
    for arch in ("recycleme-narrow", "recycleme"):
        start = time.perf_counter()
        train_classifier(arch, data, Recipe(1), device)
        rates[arch] = len(images) / (time.perf_counter() - start)
    narrow, full = rates["recycleme-narrow"], rates["recycleme"]
    return (f"training, {device.describe()}", f"{full:.0f} images/s", f"narrow network {narrow:.0f} images/s")


def main() -> None:
    """Measure, print, keep."""
    rows = [preparation(), start_up(), verification(), training(best_device())]
    header = f"{machine()}, {torch.get_num_threads()} threads"
    report("main_job", header, rows, {"platform": platform.platform()})


if __name__ == "__main__":
    main()
