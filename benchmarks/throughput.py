"""What one epoch of distillation costs: our loop against a plain PyTorch loop in fp32, in one run.

Run: python benchmarks/throughput.py [--answers 2000] [--rounds 3]

Both train the same network on the same answers with the same small moves, AdamW and batch size. The plain loop is what
one would write: float pictures in a DataLoader, fp32, the default memory layout. Every measurement is a process of its
own and the two take turns; of each the best round counts. Where a bf16 matrix product is what limits the device, its
rate gives an upper bound for the images per second; the share of it that we reach is told too.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as nn_functional
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import ROOT, machine, report, seconds
from training_host.data.arrays import ScoredSet
from training_host.data.waste import CLASSES
from training_host.nets.build import build_net
from training_host.training.augment import small_moves
from training_host.training.device import best_device
from training_host.training.distill import distill
from training_host.training.loop import Recipe

ARCHS = ("recycleme", "recycleme-narrow")
FLAGS = ("avx512f", "avx512_bf16", "amx_bf16", "amx_tile", "bf16")


def answers(count: int) -> ScoredSet:
    """Noise: what is learnt does not change how long it takes."""
    rng = np.random.default_rng(0)
    scores = rng.dirichlet(np.full(len(CLASSES), 0.2), count).astype(np.float32)
    return ScoredSet(rng.integers(0, 256, (count, 64, 64, 3), dtype=np.uint8), scores, CLASSES)


def ours(arch: str, data: ScoredSet) -> float:
    """Seconds of an epoch as `train-host distill` trains, without its beginning and its end."""
    ticks = [time.perf_counter()]
    distill(arch, data, Recipe(3), best_device(), progress=lambda report: ticks.append(time.perf_counter()))
    return min(b - a for a, b in itertools.pairwise(ticks[1:]))


def plain(arch: str, data: ScoredSet) -> float:
    """Seconds of an epoch of the loop that one would write."""
    device = best_device().name
    model = build_net(arch, len(CLASSES), 0).to(device).train()
    pictures = torch.from_numpy(data.images).permute(0, 3, 1, 2).contiguous().float() / 255
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(pictures, torch.from_numpy(data.scores)), 64, shuffle=True, drop_last=True
    )
    optimizer, generator = torch.optim.AdamW(model.parameters(), lr=1e-3), torch.Generator().manual_seed(0)

    def epoch() -> None:
        for batch, scores in loader:
            logits = model(small_moves(batch.to(device), generator))
            loss = nn_functional.kl_div(logits.log_softmax(1), scores.to(device), reduction="batchmean")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    epoch()
    return seconds(epoch, 2)


def products(arch: str) -> int:
    """Multiplications of one picture's forward pass."""
    total = 0

    def count(module: nn.Module, _: Any, out: torch.Tensor) -> None:
        nonlocal total
        each = module.weight[0].numel() if isinstance(module, nn.Conv2d | nn.Linear) else 0
        total += each * out[0].numel()

    model = build_net(arch, len(CLASSES), 0).eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    model(torch.zeros(1, 3, 64, 64))
    return total


def bound(arch: str) -> float:
    """Images per second if training were nothing but bf16 matrix products: three for every one of the forward pass."""
    device = best_device().name
    side = 8192 if device == "cuda" else 1024
    left = torch.randn(side, side, dtype=torch.bfloat16, device=device)

    def multiply() -> None:
        product = left @ left
        for _ in range(9):
            product = product @ left
        if device == "cuda":
            torch.cuda.synchronize()

    multiply()
    return 10 * side**3 / seconds(multiply) / (3 * products(arch))


def measured(what: str, arch: str, count: int) -> dict[str, float]:
    """One measurement in a process of its own: seconds of an epoch and the largest resident size in MB."""
    line = [sys.executable, __file__, "--measure", what, "--arch", arch, "--answers", str(count)]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure in turns, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--answers", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", choices=("ours", "plain"), help="one measurement, as JSON; used by the run itself")
    parser.add_argument("--arch", default=ARCHS[0])
    given = parser.parse_args()
    if given.measure:
        epoch = {"ours": ours, "plain": plain}[given.measure](given.arch, answers(given.answers))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if torch.cuda.is_available():
            memory = torch.cuda.max_memory_allocated() / 2**20
        print(json.dumps({"epoch": epoch, "peak": memory}))
        return
    rows: list[tuple[str, str, str]] = []
    figures: dict[str, Any] = {}
    taken = given.answers // 64 * 64
    for arch in ARCHS:
        turns = [{w: measured(w, arch, given.answers) for w in ("plain", "ours")} for _ in range(given.rounds)]
        best = {w: min(t[w]["epoch"] for t in turns) for w in ("plain", "ours")}
        peak = {w: max(t[w]["peak"] for t in turns) for w in ("plain", "ours")}
        ratio, share = best["plain"] / best["ours"], taken / best["ours"] / bound(arch)
        told = f"{best['ours']:.1f} s an epoch of {given.answers}, {taken / best['ours']:.0f} images/s"
        against = f"plain fp32 {best['plain']:.1f} s, {taken / best['plain']:.0f} images/s: {ratio:.1f} x"
        rows.append((arch, told, against))
        size = f"{peak['ours']:.0f} MB at most, {100 * share:.0f} % of the matrix rate's bound"
        rows.append((f"{arch}, memory", size, f"plain fp32 {peak['plain']:.0f} MB"))
        figures[arch] = {"turns": turns, "ratio": ratio, "share_of_bound": share}
    words = Path("/proc/cpuinfo").read_text().split()
    flags = " ".join(flag for flag in FLAGS if flag in words) or "none of " + ", ".join(FLAGS)
    header = f"{machine()}, {best_device().describe()}, {torch.get_num_threads()} threads, flags {flags}"
    report("throughput", header, rows, figures)


if __name__ == "__main__":
    main()
