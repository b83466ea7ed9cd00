"""Kill the agent a thousand times, under a bad network, a jumping clock and a full disk: are the promises kept?

Several homes at once, each with a real server, a network that loses things, and agents that are killed with SIGKILL.
Exit 1 where a promise was broken, with what is needed to do it again. One table, one JSON.

Run: .venv/bin/python benchmarks/chaos.py --kills 1000
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000, help="of a living agent, over all homes (default: 1000)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--in-flight", type=int, help="queries at the same time; default: 1, 4 and 8, home by home")
    parser.add_argument("--homes", type=int, default=3, help="tormented at the same time (default: 3)")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "chaos.json", metavar="OUT")
    return parser.parse_args()


def plans(kills: int, seed: int, in_flight: int | None, homes: int) -> list[Any]:
    """One plan for each home: strict and generous servers, patient and impatient agents, wide and small disks."""
    from tests.chaos.fate import Plan

    rng, out = random.Random(seed), []
    for home in range(homes):
        period = (10, 15, 12)[home % 3]
        quota = round(period * rng.uniform(1.4, 2.2))  # enough for a while, and then it is spent
        out.append(
            Plan(
                kills=kills // homes + (home < kills % homes),
                seed=rng.randrange(10**6),
                in_flight=in_flight or (1, 4, 8)[home % 3],
                quota=quota,
                # A strict server locks out at the first query too many. A generous one does not help the agent by
                # saying how little is left: there the ledger stands alone.
                server_quota=quota if home % 2 == 0 else 50 * quota,
                period=period,
                timeout=(2.0, 5.0, 2.0)[home % 3],
                small_disk=home % 3 == 2,
            )
        )
    return out


class Progress:
    """One line on a terminal."""

    def __init__(self, goal: int) -> None:
        self._goal, self._done, self._start, self._lock = goal, 0, time.monotonic(), threading.Lock()
        self._stop = threading.Event()

    def stop(self, *_: object) -> None:
        """Let every home tidy up at its next kill."""
        self._stop.set()

    def __call__(self) -> None:
        if self._stop.is_set():
            raise InterruptedError("stopped")
        with self._lock:
            self._done += 1
            if sys.stderr.isatty():
                took = time.monotonic() - self._start
                print(f"\r{self._done} of {self._goal} kills, {took:.0f} s ", end="", file=sys.stderr, flush=True)
                if self._done == self._goal:
                    print("\nthe calm after", file=sys.stderr)


def machine() -> str:
    cpu = next((x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")), "?: unknown")
    return f"{cpu.split(':')[1].strip()}, {os.cpu_count()} cores, {platform.platform()}"


def keep(out: Path, result: dict[str, Any]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=2) + "\n")
    partial.replace(out)


def main() -> None:
    """Torment, print, keep."""
    options = arguments()
    sys.path.insert(0, str(ROOT))  # the machinery is shared with the tests
    from tests.chaos.campaign import run_campaign
    from tests.chaos.report import Tally

    chosen = plans(options.kills, options.seed, options.in_flight, options.homes)
    folder = Path(tempfile.mkdtemp(prefix="magpie-chaos-"))
    start, progress, total = time.monotonic(), Progress(options.kills), Tally()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, progress.stop)
    print(f"seed {options.seed}; {len(chosen)} homes in {folder}")
    with ThreadPoolExecutor(len(chosen)) as pool:
        running = [pool.submit(run_campaign, plan, folder / f"home-{i}", progress) for i, plan in enumerate(chosen)]
        for each in running:
            total += each.result()
    facts = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": machine(),
        "seconds": round(time.monotonic() - start),
        "seed": options.seed,
        "homes": [asdict(plan) for plan in chosen],
    }
    print(f"{facts['date']}, {facts['machine']}, {facts['seconds']} s", "", *total.lines(), sep="\n")
    keep(options.json, facts | total.as_dict())
    for sentence in total.violations:
        print(f"BROKEN: {sentence}", file=sys.stderr)
    if total.violations:
        print(f"the homes are kept in {folder}; again: --seed {options.seed} --kills {options.kills}", file=sys.stderr)
        sys.exit(1)
    folder.rmdir()


if __name__ == "__main__":
    main()
