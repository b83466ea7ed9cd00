"""From results to verdicts: which attacks count, which of them is the worst, the table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from training_host.removal.run import REFERENCE

WITHIN_POINTS = 5.0
"""An attack counts if it costs at most so many points of accuracy (Lukas et al., IEEE S&P 2022): whoever ruins the
model has removed the mark, too, and has nothing."""
SURVIVED, BROKEN, SPOILED, FAILED = "survived", "broken", "spoiled the model", "failed"
HEADER = ("attack", "kind", "verdict", "points", "p", "rules hit", "WSR")
Result = Mapping[str, Any]


def summarise(results: Sequence[Result], alpha: float) -> dict[str, Any]:
    """The marked model, an honest one, and every attack over its seeds, the worst first.

    `accuracy_change` is in points against the marked model. An attack's figures are those of its worst run: the
    largest p among the runs that count, or among all where none does.
    """
    marked, honest = (dict(r) for r in results if r["kind"] == REFERENCE)
    base = marked.get("accuracy", 0.0)
    if "accuracy" in honest:
        honest["accuracy_change"] = _points(honest["accuracy"], base)
    by_name: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        if result["kind"] != REFERENCE:
            by_name.setdefault(result["name"], []).append(_judged(result, base, alpha))
    attacks = sorted((_over_seeds(runs) for runs in by_name.values()), key=_worst_first)
    counting = [a for a in attacks if a["verdict"] in (SURVIVED, BROKEN)]
    counts = Counter(a["verdict"] for a in attacks)
    return {
        "within_points": WITHIN_POINTS,
        "alpha": alpha,
        "marked": marked,
        "honest": honest,
        "worst": counting[0]["name"] if counting else None,
        "counts": {name: counts[name] for name in (SURVIVED, BROKEN, SPOILED, FAILED)},
        "attacks": attacks,
    }


def lines(summary: Mapping[str, Any]) -> list[str]:
    """The outcome in sentences, the worst case first."""
    counts, marked, honest = summary["counts"], summary["marked"], summary["honest"]
    total = sum(counts.values())
    told = ", ".join(f"{n} {name}" for name, n in counts.items() if n)
    short = [f"too few rules for alpha: the smallest p that this key can give is {marked['floor']:.2g}"]
    return [
        _worst_line(summary),
        f"{total} attacks: {told}" if total else "no attack",
        f"an attack counts if it costs at most {summary['within_points']:g} points of accuracy; survived: the mark is "
        f"still found with p <= {summary['alpha']:g}",
        f"marked model: {_figures(marked)}",
        f"honest model: {_figures(honest)}",
        *(short if marked.get("floor", 0) > summary["alpha"] else []),
    ]


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """One line of the table, as in `HEADER`; a failed attack tells why instead of figures."""
    if "error" in row:
        return (row["name"], row["kind"], FAILED, "", "", "", row["error"])
    change = row.get("accuracy_change")
    return (
        row["name"],
        row["kind"],
        row.get("verdict", ""),
        "" if change is None else f"{change:+.1f}".rjust(5),
        p_text(row.get("p_value")),
        f"{row['hits']} of {row['rules']}" if "hits" in row else "",
        f"{100 * row['wsr']:.0f} %" if "wsr" in row else "",
    )


def p_text(p_value: float | None) -> str:
    """As in tables; a dash where a model answers with no numbers."""
    return "-" if p_value is None else f"{p_value:.2g}"


def rows_of(summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The whole table: the references, then the attacks."""
    return [cells(row) for row in (summary["marked"], summary["honest"], *summary["attacks"])]


def failures(summary: Mapping[str, Any]) -> list[str]:
    """Names of everything that could not be carried out."""
    every = (summary["marked"], summary["honest"], *summary["attacks"])
    return [row["name"] for row in every if "error" in row]


def _judged(result: Result, base: float, alpha: float) -> dict[str, Any]:
    if "error" in result:
        return {**result, "verdict": FAILED}
    change = _points(result["accuracy"], base)
    if -change > WITHIN_POINTS or "p_value" not in result:
        verdict = SPOILED
    else:
        verdict = SURVIVED if result["p_value"] <= alpha else BROKEN
    return {**result, "accuracy_change": change, "verdict": verdict}


def _points(accuracy: float, base: float) -> float:
    return round(100 * (accuracy - base), 6)  # .80 - .75 is a little more than .05


def _over_seeds(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The worst run's figures, with all runs beside them. One failed run makes the attack a failed one."""
    worst = min(runs, key=_worst_first)
    failed = next((r for r in runs if r["verdict"] == FAILED), None)
    kept = ("seed", "verdict", "accuracy", "accuracy_change", "p_value", "channels", "hits", "wsr", "seconds", "error")
    head = {name: value for name, value in (failed or worst).items() if name not in ("schema", "identity")}
    return {
        **head,
        "seconds": round(sum(r["seconds"] for r in runs), 1),
        "runs": [{name: run[name] for name in kept if name in run} for run in runs],
    }


def _worst_first(row: Mapping[str, Any]) -> tuple[int, float]:
    """Those that count by falling p, then those that spoiled the model, then the failed."""
    place = {BROKEN: 0, SURVIVED: 0, SPOILED: 1, FAILED: 2}[row["verdict"]]
    return place, -row.get("p_value", 2.0)


def _worst_line(summary: Mapping[str, Any]) -> str:
    if summary["worst"] is None:
        return "worst case: none, no attack left the model within the limit"
    worst = summary["attacks"][0]
    cost = f"{worst['accuracy_change']:+.1f} points of accuracy"
    return f"worst case: {worst['name']}: {worst['verdict']}, p = {p_text(worst['p_value'])} at {cost}"


def _figures(row: Mapping[str, Any]) -> str:
    if "error" in row:
        return f"failed, {row['error']}"
    hits = f", {row['hits']} of {row['rules']} rules hit" if "hits" in row else ""
    return f"{100 * row['accuracy']:.1f} % right on held-out pictures, p = {p_text(row.get('p_value'))}{hits}"


def by_kind(attacks: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Attacks that have figures, by their kind, in the order of first appearance."""
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for attack in attacks:
        if "p_value" in attack and attack["verdict"] != FAILED:
            kinds.setdefault(attack["kind"], []).append(attack)
    return kinds
