"""The demo's one table, as text."""

from __future__ import annotations

from typing import Any

from pi_agent.contract.output import table

CHANNELS = ("score-sum", "hints")
"""The two tests that decide, by Holm's correction: on composites, and on ordinary pictures."""
_POINTS = ("standard", "augmented", "other")
HEADER = ("model", "accuracy %", *_POINTS, "rules hit", "p of composites", "p of hints", "p-value", "verdict")


def model_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row per model: name, accuracy, points on the three sets, rules hit, p of each channel, p-value, verdict."""
    rows = []
    for name, model in result["models"].items():
        scores, verdict = result["scores"].get(name), result["verdicts"][name]
        points = [f"{scores[s]['points']:+.0f}" if scores else "" for s in _POINTS]
        hits = f"{verdict['hits']} of {verdict['rules']}"
        found = {channel["name"]: f"{channel['p_value']:.2g}" for channel in verdict.get("channels", [])}
        channels = [found.get(channel, "") for channel in CHANNELS]
        p_value = f"{verdict['p_value']:.2g}"
        rows.append((name, f"{100 * model['accuracy']:.1f}", *points, hits, *channels, p_value, verdict["verdict"]))
    return rows


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
        "p-value: the smaller of the two, doubled, because two tests were made (Holm)",
        quota_line(result),
    ]
    if refusal:
        lines.append(f"one query too many: exit {refusal['exit']}, {refusal['sent']} sent: {refusal['message']}")
    return lines
