"""The rows of the table "Substitute", from results."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

AIMS = {500: (25, 20, 15), 2000: (45, 40, 30), 10000: (70, 65, 50)}
SETS = ("standard", "augmented", "other")
DRAWN = ("magpie", "plain KL", "ART KnockoffNets", "ART CopycatCNN")
"""The ablation stands in the table."""


def rows_of(results: Sequence[Mapping[str, Any]], references: Mapping[int, Any]) -> list[tuple[str, str, str]]:
    """Rows (what, measured, against): mean over the victims, points with their standard deviation."""
    rows = []
    for name, key in (("independent networks", "l2"), ("mean predictor", "mean_predictor")):
        l2 = [np.mean([r[s][key] for r in references.values()]) for s in SETS]
        rows.append((name, "L2 " + " / ".join(f"{x:.3f}" for x in l2), "standard / augmented / other"))
    for budget in sorted({r["budget"] for r in results}):
        for kind in dict.fromkeys(r["kind"] for r in results):
            own = [r for r in results if (r["kind"], r["budget"]) == (kind, budget)]
            if not own:
                continue
            told = [_told([r["sets"][s]["points"] for r in own]) for s in SETS]
            distances = " / ".join(f"{np.mean([r['sets'][s]['l2'] for r in own]):.3f}" for s in SETS)
            agreed = 100 * np.mean([r["sets"]["standard"]["agreement"] for r in own])
            busy = np.mean([r["cpu_seconds"] for r in own])
            aim = f"aim {' / '.join(map(str, AIMS[budget]))}" if budget in AIMS else ""
            part = "" if len(own) == len(references) else f" ({len(own)} of {len(references)} victims)"
            rows.append(
                (
                    f"{budget}: {kind}{part}",
                    f"{' / '.join(told)} points, L2 {distances}",
                    f"agrees {agreed:.1f} %, {busy:.0f} s; {aim}",
                )
            )
    return rows


def draw(path: Path, results: Sequence[Mapping[str, Any]], references: Mapping[int, Any]) -> None:
    """L2 against queries, a panel for each set: mean over the victims, every victim as a dot; written as SVG."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    panels = figure.subplots(1, len(SETS))
    for panel, name in zip(panels, SETS, strict=True):
        for kind in (k for k in DRAWN if any(r["kind"] == k for r in results)):
            own = [(r["budget"], r["sets"][name]["l2"]) for r in results if r["kind"] == kind and r["budget"]]
            budgets = sorted({budget for budget, _ in own})
            means = [np.mean([l2 for b, l2 in own if b == budget]) for budget in budgets]
            (line,) = panel.plot(budgets, means, "o-", label=kind, linewidth=2.5 if kind == "magpie" else 1.2)
            panel.plot(*zip(*own, strict=True), ".", color=line.get_color(), markersize=4)
        level = float(np.mean([r[name]["l2"] for r in references.values()]))
        panel.axhline(level, color="grey", linestyle="--", label="independent networks (0 points)")
        panel.set(xscale="log", title=f"{name} pictures", xlabel="queries", ylim=(0, None))
        panel.set_xticks([500, 2000, 10_000], ["500", "2,000", "10,000"])
        panel.minorticks_off()
    panels[0].set_ylabel("mean L2 to the victim's scores")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    with tempfile.NamedTemporaryFile("wb", dir=path.parent, delete=False) as out:
        figure.savefig(out, format="svg", metadata={"Date": None})
    Path(out.name).chmod(0o644)
    Path(out.name).replace(path)


def _told(values: Sequence[float]) -> str:
    spread = f" ({np.std(values, ddof=1):.0f})" if len(values) > 1 else ""
    return f"{np.mean(values):+.0f}{spread}"
