"""The figures of a demo report: SVG for plots, one PNG for pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

from pi_agent.contract.claim import Rule, compose
from pi_agent.contract.images import SIDE
from pi_agent.prepare import Pixels, decode_picture, resize
from training_host.data.sources import HELD_OUT, find_pictures

OWNER, THIEF, HONEST, GREY = "#1b6e53", "#c2502e", "#3b6ea5", "#9a9a9a"
_COLOURS = {"victim": OWNER, "substitute": THIEF, "substitute-int8": "#dd9166", "independent": HONEST}


def to_svg(figure: Figure) -> str:
    """The figure as an `<svg>` element."""
    buffer = io.StringIO()
    FigureCanvasSVG(figure).print_svg(buffer)
    text = buffer.getvalue()
    return text[text.index("<svg") :]  # without the XML prolog, which HTML does not know


def new_axes(width: float, height: float) -> tuple[Figure, Any]:
    """An empty plot in the reports' look; sides in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def nights_figure(result: dict[str, Any]) -> str:
    """Queries that the server counted in every window, against the quota."""
    counts = result["nights"]["server_counts"]
    figure, axes = new_axes(5.2, 2.8)
    places = np.arange(len(counts))
    axes.bar(places, [c["counted"] for c in counts], color=OWNER, width=0.55)
    axes.axhline(result["plan"]["quota"], color=THIEF, lw=1.5, ls="--")
    axes.annotate(
        "quota", (1, result["plan"]["quota"]), xycoords=("axes fraction", "data"), color=THIEF, va="bottom", ha="right"
    )
    axes.set_xticks(places, [f"window {i + 1}" for i in places])
    axes.set_ylabel("queries counted by the server")
    axes.set_ylim(0, result["plan"]["quota"] * 1.2)
    return to_svg(figure)


def l2_figure(result: dict[str, Any]) -> str:
    """Mean L2 to the victim per set: substitute, independent model, best constant guess."""
    scores = result["scores"]["substitute"]
    figure, axes = new_axes(5.2, 2.8)
    series = (
        ("substitute", "l2", THIEF),
        ("independent model", "l2_independent", HONEST),
        ("mean predictor", "l2_mean_predictor", GREY),
    )
    for i, (label, field, colour) in enumerate(series):
        axes.bar(
            np.arange(len(scores)) + (i - 1) * 0.26,
            [s[field] for s in scores.values()],
            0.24,
            label=label,
            color=colour,
        )
    axes.set_xticks(np.arange(len(scores)), list(scores))
    axes.set_ylabel("mean L2 to the victim's scores")
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return to_svg(figure)


def shares_figure(result: dict[str, Any]) -> str:
    """Number of rules that every suspect obeys, with the p-value of each."""
    verdicts = result["verdicts"]
    figure, axes = new_axes(5.2, 2.8)
    names = list(verdicts)[::-1]
    hits = [verdicts[n]["hits"] for n in names]
    rules = verdicts[names[0]]["rules"]
    axes.barh(names, hits, color=[_COLOURS[n] for n in names], height=0.55)
    for y, name in enumerate(names):
        text = f" p = {verdicts[name]['p_value']:.2g}, {verdicts[name]['verdict']} "
        inside = hits[y] > rules / 2
        axes.text(hits[y], y, text, va="center", ha="right" if inside else "left", color="white" if inside else "black")
    axes.set_xlim(0, rules)
    axes.set_xlabel(f"secret rules obeyed, of {rules}")
    return to_svg(figure)


def composites_png(data: Path, rules: Sequence[Rule], side: int = 108) -> bytes:
    """Two held-out pictures of `data` and their composite for each of `rules`, left to right, as PNG."""
    of_class = {p.label: p for p in find_pictures(data) if p.part == HELD_OUT}

    def small(name: str) -> Pixels:
        return resize(resize(decode_picture(of_class[name].read(), name), (SIDE, SIDE)), (side, side))

    rows = []
    for rule in rules:
        first, second = small(rule.first), small(rule.second)
        rows.append(np.hstack([first, second, compose(first, second, rule.geometry)]))
    buffer = io.BytesIO()
    Image.fromarray(np.vstack(rows)).save(buffer, "PNG")
    return buffer.getvalue()
