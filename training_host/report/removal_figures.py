"""The frontier of a removal suite as SVG: what an attack costs the thief, against what it does to the proof."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from training_host.removal.base import EVASION, EXTRACTION, MODIFICATION
from training_host.removal.summary import BROKEN, SPOILED, by_kind
from training_host.report.figures import GREY, HONEST, OWNER, THIEF, new_axes, to_svg

COLOURS = {EXTRACTION: THIEF, MODIFICATION: HONEST, EVASION: "#8a5fa8"}
_MOST_LABELS, _WIDTH, _HEIGHT = 6, 9.0, 5.2
EDGE = 15.0
"""Points of accuracy at the right edge; what costs more is drawn there, or one ruined model would take all the room."""


def frontier_figure(summary: Mapping[str, Any]) -> str:
    """Points of accuracy lost against -log10 p, one mark for each attack.

    Below the line of alpha and left of the line of five points the mark is gone and the model is not: that corner is
    shaded. Attacks that spoiled the model are drawn hollow; the worst of those that count carry their names.
    """
    figure, axes = new_axes(_WIDTH, _HEIGHT)
    attacks, limit = by_kind(summary["attacks"]), summary["within_points"]
    every = [row for rows in attacks.values() for row in rows]
    lost = [_lost(row) for row in every]
    top = max([-math.log10(summary["alpha"]), *(_height(row) for row in [*every, summary["marked"]])]) * 1.08
    left, right = min([-2.0, *lost]) - 1, EDGE + 0.5
    alpha = -math.log10(summary["alpha"])
    axes.fill_between([left, limit], -0.4, alpha, color=THIEF, alpha=0.08, lw=0)
    axes.axhline(alpha, color=GREY, lw=1, ls="--")
    axes.axvline(limit, color=GREY, lw=1, ls="--")
    axes.text(right, alpha, f"alpha = {summary['alpha']:g} ", ha="right", va="bottom", fontsize=8, color="#666")
    axes.text(limit, top, f" {limit:g} points", ha="left", va="top", fontsize=8, color="#666")
    for kind, rows in attacks.items():
        colour = COLOURS.get(kind, GREY)
        for hollow in (False, True):
            own = [row for row in rows if (row["verdict"] == SPOILED) == hollow]
            x, y = [_lost(row) for row in own], [_height(row) for row in own]
            face = {"facecolors": "none", "edgecolors": colour} if hollow else {"color": colour}
            axes.scatter(x, y, s=34, alpha=0.85, label=None if hollow else kind, **face)
    _references(axes, summary)
    _labels(axes, _named(every), limit + 0.8, top)
    axes.set_xlim(left, right)
    axes.set_ylim(-0.4, top)
    axes.set_xlabel("points of accuracy lost against the marked model")
    axes.set_ylabel("strength of the proof, -log10 p")
    axes.legend(frameon=False, fontsize=8, ncols=5, loc="lower left", bbox_to_anchor=(0, 1.0))
    return to_svg(figure)


def _height(row: Mapping[str, Any]) -> float:
    p_value = row.get("p_value")
    return -math.log10(p_value) if p_value else 0.0


def _lost(row: Mapping[str, Any]) -> float:
    return float(min(-row.get("accuracy_change", 0.0), EDGE))


def _references(axes: Any, summary: Mapping[str, Any]) -> None:
    for row, marker, colour in ((summary["marked"], "*", OWNER), (summary["honest"], "s", GREY)):
        if "p_value" in row:
            axes.scatter([_lost(row)], [_height(row)], s=70, marker=marker, color=colour, label=row["name"], zorder=3)


def _named(every: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The broken ones by falling p; where there are few, the weakest survivors beside them."""
    counting = [row for row in every if row["verdict"] != SPOILED]
    worst = sorted(counting, key=lambda row: -row["p_value"])
    broken = sum(row["verdict"] == BROKEN for row in worst)
    return worst[: min(_MOST_LABELS, max(3, broken))]


def _labels(axes: Any, rows: Sequence[Mapping[str, Any]], column: float, top: float) -> None:
    """Names in a column right of the limit, pushed apart upwards so that they do not lie on each other."""
    gap, last = top / 24, -math.inf
    for row in sorted(rows, key=_height):
        last = max(_height(row), last + gap)
        axes.annotate(
            row["name"],
            (_lost(row), _height(row)),
            (column, last),
            fontsize=8,
            va="center",
            bbox={"boxstyle": "square,pad=0.15", "color": "white", "alpha": 0.8},
            arrowprops={"arrowstyle": "-", "color": GREY, "lw": 0.6, "shrinkA": 0, "shrinkB": 3, "relpos": (0, 0.5)},
        )
