"""What the agent costs: one table, one JSON in `results/`. Ratios within one run, best of some repeats.

Run: make bench, or python benchmarks/agent.py [--quick]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import ROOT, machine, photos, report, seconds
from benchmarks.watched import Cost, run
from pi_agent.agent import Agent
from pi_agent.contract.files import sha256_hex
from pi_agent.prepare import prepare_bytes

Row = tuple[str, str, str]
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("PI_AGENT_")} | {"OMP_NUM_THREADS": "1"}
LOOPBACK = str(ROOT / "benchmarks" / "loopback.py")


def pi(home: Path, *arguments: object, **options: Any) -> Cost:
    """Run one command of the agent."""
    command = [sys.executable, "-m", "pi_agent", "--home", str(home), *map(str, arguments)]
    return run(command, ENVIRONMENT | options.pop("environment", {}), **options)


@contextlib.contextmanager
def oracle() -> Iterator[str]:
    """The cheapest server, in its own process."""
    with subprocess.Popen([sys.executable, LOOPBACK, "serve"], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def home_with(folder: Path, url: str, count: int, files: int | None = None) -> Path:
    """A home whose queue holds `count` pictures; only the first `files` of them are really on the disk."""
    pi(folder, "init", "--url", url, "--daily-quota", 1_000_000)
    jpegs = [prepare_bytes(photo).jpeg for photo in photos(16, noise=4)]
    with Agent.open(str(folder)) as agent:
        for first in range(0, count, 64):
            group = []
            for number in range(first, min(first + 64, count)):
                jpeg = jpegs[number % 16] + number.to_bytes(4, "big")  # behind the end: another name, the same picture
                name = sha256_hex(jpeg)
                if files is None or number < files:
                    path = agent.pictures.path(name)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(jpeg)
                group.append((name, f"{number}.jpg"))
            agent.queue.add(group, 0, agent.clock.now())
    return folder


def copy_of(home: Path, folder: Path) -> Path:
    """A fresh start: the same pictures, linked, and a database of its own."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(home, folder, ignore=shutil.ignore_patterns("images"))
    shutil.copytree(home / "images", folder / "images", copy_function=os.link)
    return folder


def preparation(quick: bool) -> list[Row]:
    """The processor's time for one photo against OpenCV alone: `bare`, and with colours as fine as ours."""
    rows = []
    for size, count in (((400, 300), 24), ((1280, 960), 4), ((4000, 3000), 1)):
        files = photos(count, size, noise=4)
        ways: dict[str, Callable[[bytes], object]] = {
            "ours": prepare_bytes,
            "bare": lambda data: bare_opencv(data),
            "fine": lambda data: bare_opencv(data, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
        }
        best = dict.fromkeys(ways, float("inf"))
        for _ in range(5 if quick else 30):
            for name, way in ways.items():
                start = time.process_time()
                for data in files:
                    way(data)
                best[name] = min(best[name], (time.process_time() - start) / count)
        against = f"{best['ours'] / best['bare']:.2f} x bare OpenCV, {best['ours'] / best['fine']:.2f} x in 4:4:4"
        rows.append((f"prepare {size[0]}x{size[1]}", f"{1000 * best['ours']:.2f} ms", against))
    return rows


def bare_opencv(data: bytes, sampling: int = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420) -> None:
    """Read, resize, encode, and believe that the file is whole."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    small = cv2.resize(pixels, (300, 300), interpolation=cv2.INTER_AREA)
    cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling])


def queries(work: Path, url: str, quick: bool) -> tuple[list[Row], dict[str, Any]]:
    """A query's own cost, and what it writes: `collect` over N pictures without its start, against bare requests."""
    count = 200 if quick else 1000
    template = home_with(work / "template", url, count)
    rows, figures = [], {}
    for lines in (1, 8):
        many, one, bare = Cost(wall=1e9, cpu=1e9), Cost(wall=1e9, cpu=1e9), {"wall": 1e9, "cpu": 1e9}
        setting = {"PI_AGENT_ORACLE_IN_FLIGHT": str(lines)}
        for _ in range(1 if quick else 3):
            home = copy_of(template, work / "asked")
            before = (home / "agent.db").stat().st_size
            found = pi(home, "collect", environment=setting, log=home / "agent.db-wal")
            grown = (home / "agent.db").stat().st_size - before
            home = copy_of(template, work / "asked")
            single = pi(home, "collect", "--limit", 1, environment=setting)
            command = [sys.executable, LOOPBACK, "ask", url, str(template / "images"), str(lines)]
            said = json.loads(subprocess.run(command, capture_output=True, check=True, env=ENVIRONMENT).stdout)
            bare = {key: min(value, said[key]) for key, value in bare.items()}
            one.wall, one.cpu = min(one.wall, single.wall), min(one.cpu, single.cpu)
            many.wall, many.cpu = min(many.wall, found.wall), min(many.cpu, found.cpu)
            many.called, many.stored, many.log_peak = found.called, found.stored, found.log_peak
            one.called, one.stored = single.called, single.stored
        wall, cpu = ((getattr(many, key) - getattr(one, key)) / (count - 1) for key in ("wall", "cpu"))
        bare = {key: value / count for key, value in bare.items()}
        own, own_cpu = 1000 * (wall - bare["wall"]), 1000 * (cpu - bare["cpu"])
        rows.append(
            (
                f"a query's own cost, {lines} in flight",
                f"{own_cpu:.2f} ms of the processor, {own:.2f} ms on the clock",
                f"bare requests: {1000 * bare['cpu']:.2f} ms, {1000 * bare['wall']:.2f} ms",
            )
        )
        per_thousand = 1000 / count
        stored, called = ((getattr(many, k) - getattr(one, k)) * per_thousand / 1e6 for k in ("stored", "called"))
        rows.append(
            (
                f"1,000 queries, {lines} in flight, to the disk",
                f"{stored:.2f} MB ({called:.2f} MB in write calls)",
                f"database +{grown * per_thousand / 1e6:.2f} MB, log at most {many.log_peak / 1e6:.2f} MB",
            )
        )
        figures[f"{lines} in flight"] = {"queries": count, "collect": vars(many), "start": vars(one), "bare": bare}
    return rows, figures


def start_up(work: Path, url: str, quick: bool) -> list[Row]:
    """From the shell's point of view."""
    home, repeats = home_with(work / "small", url, 64), 3 if quick else 7
    bare = seconds(lambda: run([sys.executable, "-c", "import click"], ENVIRONMENT), repeats)
    rows = []
    for command in ("--help", "budget", "status"):
        took = seconds(lambda command=command: pi(home, command), repeats)
        rows.append((f"pi-agent {command}", f"{1000 * took:.0f} ms", f"{took / bare:.2f} x python -c 'import click'"))
    return rows


def memory(work: Path, url: str, quick: bool) -> tuple[list[Row], dict[str, Any]]:
    """Peaks of `collect` and `verify`, here and, where its root is set up, on the emulated Raspberry Pi."""
    count = 500 if quick else 5000
    collect = pi(home_with(work / "night", url, count), "collect")
    shutil.rmtree(work / "night")
    suspect = ["verify", ROOT / "models/substitute/model.onnx", "--claim", ROOT / "models/claim.json"]
    verify = pi(work / "none", *suspect, good=(0, 10, 11))
    rows = [
        (f"memory of collect, {count} pictures", f"{collect.peaks['agent']:.0f} MB", f"{collect.wall:.1f} s"),
        (
            "memory of verify",
            f"{verify.together:.0f} MB at the same time",
            ", ".join(f"{name} {peak:.0f} MB" for name, peak in verify.peaks.items()),
        ),
    ]
    emulated, found = "memory on emulated arm64", {"collect": vars(collect), "verify": vars(verify)}
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = Path(os.environ.get("MAGPIE_PI_ROOT") or cache / "magpie-pi")
    if quick or not (root / "full.stamp").is_file():
        why = "--quick" if quick else f"no {root.name}/full.stamp: run tests/pi/setup.sh"
        return [*rows, (emulated, "not measured", why)], found
    tool = [sys.executable, str(ROOT / "tests" / "pi" / "memory.py")]
    for name, arguments in (("collect", ["--collect", "100"]), ("verify", ["--", *map(str, suspect)])):
        done = subprocess.run([*tool, *arguments], capture_output=True, text=True, env=ENVIRONMENT, check=False)
        if done.returncode:
            rows.append((f"{emulated}, {name}", "not measured", (done.stderr.splitlines() or ["no reason given"])[-1]))
            continue
        told = json.loads(done.stdout)
        found[f"{name}, arm64"] = {key: told[key] for key in ("exit", "seconds", "processes")}
        peaks = (f"{p['process']} {p['guest_peak_mb']:.0f} MB" for p in told["processes"])
        rows.append((f"{emulated}, {name}", ", ".join(peaks), f"{told['seconds']:.0f} s"))
    return rows, found


def long_queue(work: Path, url: str, quick: bool) -> list[Row]:
    """Does a queue of 100,000 stay fast? Against a queue of 64."""
    count = 10_000 if quick else 100_000
    start = time.perf_counter()
    home = home_with(work / "long", url, count, files=64)
    rows = [(f"queue {count:,} pictures", f"{time.perf_counter() - start:.1f} s", "64 in a transaction")]
    short = work / "small"
    for command in (["status"], ["budget"], ["collect", "--dry-run"], ["collect", "--limit", "10"]):
        ours = seconds(lambda command=command: pi(home, *command), 2)
        few = seconds(lambda command=command: pi(short, *command), 2)
        against = f"{ours / few:.2f} x with 64"
        rows.append((f"{' '.join(command)}, {count:,} queued", f"{1000 * ours:.0f} ms", against))
    return rows


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="smaller numbers, only to see that it runs; keeps nothing")
    quick = parser.parse_args().quick
    packages = ("click", "numpy", "pillow", "opencv-python-headless", "requests", "onnxruntime")
    with tempfile.TemporaryDirectory(prefix="agent-bench-") as folder, oracle() as url:
        work = Path(folder)
        rows = preparation(quick)
        asked, figures = queries(work, url, quick)
        started = start_up(work, url, quick)
        kept, memories = memory(work, url, quick)
        rows += asked + started + kept + long_queue(work, url, quick)
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    more = {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "load at the end": load,
        "queries": figures,
        "memory": memories,
    }
    report(None if quick else "agent", f"{machine()}, {os.cpu_count()} cores, load at the end {load}", rows, more)


if __name__ == "__main__":
    main()
