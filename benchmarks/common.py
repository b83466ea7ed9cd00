"""What the benchmarks share: the best of some repeats, photos, the machine's name, one table, one JSON."""

from __future__ import annotations

import io
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pi_agent.contract.output import table
from training_host.data.waste import CLASSES, render

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """The best of some repeats: what the machine can do when nobody disturbs it."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def photos(count: int, size: tuple[int, int] = (400, 300), noise: float = 0.0) -> list[bytes]:
    """Rendered pictures as JPEGs of (width, height); `noise` makes them as dense as a camera's."""
    out = []
    for i in range(count):
        rng = np.random.default_rng(i)
        pixels = np.asarray(Image.fromarray(render(CLASSES[i % len(CLASSES)], rng)).resize(size))
        if noise:
            pixels = (pixels + rng.normal(0, noise, pixels.shape)).clip(0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
        out.append(buffer.getvalue())
    return out


def machine() -> str:
    """Date and processor."""
    cpu = next((x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")), "?: unknown")
    return f"{datetime.now(UTC):%Y-%m-%d}, {cpu.split(':')[1].strip()}"


def report(name: str | None, header: str, rows: Sequence[tuple[str, str, str]], more: Mapping[str, Any]) -> None:
    """Print the table and keep it, with `more`, as `results/NAME.json` where a name is given."""
    print(header, "", *table(rows, ("what", "measured", "against")), sep="\n")
    if name is None:
        return
    with tempfile.NamedTemporaryFile("w", dir=RESULTS, delete=False, suffix=".json") as out:
        json.dump({"machine": header, **more, "rows": rows}, out, indent=2)
        out.write("\n")
    Path(out.name).chmod(0o644)
    Path(out.name).replace(RESULTS / f"{name}.json")
