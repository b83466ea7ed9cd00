"""The rows of the table "Watermark", from results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pi_agent.contract.claim import WatermarkKey, queries_per_rule
from pi_agent.contract.claim.document import ORDINARY_PER_CLASS

Result = Mapping[str, Any]
Results = Mapping[tuple[str, int], Mapping[str, Result]]
SIX = ("FT", "FP", "ANP", "NAD", "MCR", "NNL")
WITHIN = 0.05


def rows_of(
    results: Results, seeds: int, schemes: Sequence[str], key: WatermarkKey
) -> tuple[list[tuple[str, str, str]], dict[str, Any]]:
    """Rows (what, measured, against) and the figures behind them. "quoted" marks what was not measured here."""
    ours, figures = results["krc", 0], _over_seeds(results, seeds)
    rows = [
        ("accuracy, unmarked", _mean(figures["unmarked"]), f"mean and sd of {seeds} seeds"),
        ("accuracy, marked", _mean(figures["marked"]), "the same seeds"),
        ("accuracy cost", _mean(figures["cost"], "points"), "aim 0.3; quoted: DAWN 0.03-0.5, APP < 0.5"),
        ("victim", _spread(figures["victim"]), "rate and p of every seed"),
        ("soft extraction, all pictures", _spread(figures["soft"]), "aim 98 %; quoted: MEA-Defender 84-98 % of 50k"),
    ]
    quoted = {
        "soft, 1000": "aim p <= 1e-6; quoted: MEA-Defender 55.6 % of 10k",
        "soft, 500": "",
        "labels": "aim 88 %; quoted: DeepTracer 86.9 %, MEA-Defender 8.6 %",
        "soft, other architecture": "aim 85 %; quoted: MEA-Defender 64-67 %",
        "int8": "aim: 1 point, p unchanged; nobody reports it",
        "unlearning": "scheme-aware, the thief knows all but the key",
    }
    rows += [(name, told(ours[name], ours["itself"]), against) for name, against in quoted.items() if name in ours]
    tried = [name for name in SIX if name in ours]
    rows += [(f"modified: {name}", told(ours[name], ours["itself"]), "") for name in tried]
    rows.append((f"worst of {len(tried)}", _worst(ours, tried), "aim 90 %; quoted: APP 87.5 % (worst of six)"))
    for scheme in schemes[1:]:
        found = results[scheme, 0]
        accuracy = f"accuracy {100 * found['itself']['accuracy']:.1f} %, this run"
        rows.append((f"{scheme}: itself", told(found["itself"], found["itself"]), accuracy))
        rows += [
            (f"{scheme}: {name}", told(r, found["itself"]), "this run") for name, r in found.items() if name != "itself"
        ]
    asked = key.rules * queries_per_rule(len(key.classes), key.rules) + ORDINARY_PER_CLASS * len(key.classes)
    rows.append(("queries for a verdict", str(asked), "aim <= 320; quoted: UAP 20, MEA-Defender 1,000"))
    return rows, figures


def _over_seeds(results: Results, seeds: int) -> dict[str, list[Any]]:
    unmarked = [100 * results["unmarked", s]["itself"]["accuracy"] for s in range(seeds)]
    marked = [100 * results["krc", s]["itself"]["accuracy"] for s in range(seeds)]
    return {
        "unmarked": unmarked,
        "marked": marked,
        "cost": [a - b for a, b in zip(unmarked, marked, strict=True)],
        "victim": [(r["wsr"], r["p_value"]) for r in (results["krc", s]["itself"] for s in range(seeds))],
        "soft": [(r["wsr"], r["p_value"]) for r in (results["krc", s]["soft"] for s in range(seeds))],
        "nulls": [results["unmarked", s]["itself"]["p_value"] for s in range(seeds)],
    }


def told(result: Result, base: Result) -> str:
    """Rate, p, and what it cost the thief."""
    change = 100 * (result["accuracy"] - base["accuracy"])
    if "p_value" not in result:
        return "no numbers come out of it any more"
    counts = "" if change >= -100 * WITHIN else ", does not count"
    return f"rate {100 * result['wsr']:.0f} %, p {result['p_value']:.1e}, accuracy {change:+.1f}{counts}"


def _worst(found: Mapping[str, Result], tried: Sequence[str]) -> str:
    counting = [
        n for n in tried if "p_value" in found[n] and found[n]["accuracy"] >= found["itself"]["accuracy"] - WITHIN
    ]
    if not counting:
        return "none stays within 5 points"
    name = min(counting, key=lambda n: found[n]["wsr"])
    return f"{name}: {told(found[name], found['itself'])}"


def _mean(values: Sequence[float], unit: str = "%") -> str:
    return f"{np.mean(values):.1f} {unit}, sd {np.std(values, ddof=1):.1f}"


def _spread(values: Sequence[tuple[float, float]]) -> str:
    rates, p = [100 * rate for rate, _ in values], [p for _, p in values]
    return f"rate {np.mean(rates):.0f} %, sd {np.std(rates, ddof=1):.1f}; p {min(p):.1e} to {max(p):.1e}"
