"""The demo's one table, as text."""

from __future__ import annotations

from typing import Any

from pi_agent.contract.output import table


def model_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row per model: name, accuracy, points on the three sets, rules hit, p-value, verdict."""
    rows = []
    for name, model in result["models"].items():
        scores, verdict = result["scores"].get(name), result["verdicts"][name]
        points = [f"{scores[s]['points']:+.0f}" if scores else "" for s in ("standard", "augmented", "other")]
        hits = f"{verdict['hits']} of {verdict['rules']}"
        rows.append(
            (name, f"{100 * model['accuracy']:.1f}", *points, hits, f"{verdict['p_value']:.2g}", verdict["verdict"])
        )
    return rows


HEADER = ("model", "accuracy %", "standard", "augmented", "other", "rules hit", "p-value", "verdict")


def quota_line(result: dict[str, Any]) -> str:
    """What the server itself counted, against the quota."""
    counts = result["nights"]["server_counts"]
    most, refused = max(c["counted"] for c in counts), sum(c["refused"] for c in counts)
    answers = sum(c["counted"] for c in counts)
    return (
        f"the server counted {answers} queries in {len(counts)} windows, at most {most} of {result['plan']['quota']} "
        f"in one; {refused} above the quota"
    )


def summary_lines(result: dict[str, Any]) -> list[str]:
    """The table and what stands around it."""
    plan = result["plan"]
    width = "the exact RecycleMe network" if plan["arch"] == "recycleme" else "RecycleMe at a quarter of its width"
    refusal = result["nights"]["refusal"]
    lines = [
        "",
        f"{width}, {plan['epochs']} epochs, {result['machine']}, {result['seconds']:.0f} s",
        "",
        *table(model_rows(result), HEADER),
        "",
        "points: 0 = as far from the victim as the independent model, 100 = a perfect copy",
        quota_line(result),
    ]
    if refusal:
        lines.append(f"one query too many: exit {refusal['exit']}, {refusal['sent']} sent: {refusal['message']}")
    return lines
