"""Draws `docs/system.svg`: the two machines, what runs on each and what passes between them.

Run it after a change: `python docs/draw_system.py`. Plain Python, no packages; a test holds the two files together.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

WIDTH, HEIGHT = 1200, 700
PI, HOST = "#b3204d", "#1f5fa8"
PI_TINT, HOST_TINT = "#fcf2f5", "#f0f5fc"
INK, GREY, LINE, PAPER = "#1c2430", "#566070", "#cfd6df", "#ffffff"
FONT = "system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', 'DejaVu Sans', sans-serif"

Box = tuple[int, int, int, int]
"""x, y, width, height."""

QUEUE: Box = (44, 112, 112, 84)
LEDGER: Box = (184, 112, 128, 84)
TRANSPORT: Box = (340, 112, 116, 84)
CACHE: Box = (44, 248, 268, 76)
EXPORT: Box = (340, 248, 116, 76)
CHILD: Box = (214, 416, 242, 82)
EXACT: Box = (214, 548, 242, 78)
VERDICT: Box = (44, 548, 140, 78)

SERVE: Box = (744, 112, 180, 84)
VICTIM: Box = (980, 112, 176, 84)
DISTILL: Box = (744, 248, 180, 76)
SCORE: Box = (744, 348, 180, 56)
EXPORT_ONNX: Box = (744, 428, 180, 58)
KEY: Box = (980, 248, 176, 76)
CLAIM: Box = (980, 548, 176, 78)


def text(
    x: float, y: float, words: str, size: int = 13, colour: str = INK, weight: int = 400, at: str = "start"
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{colour}" font-weight="{weight}" '
        f'text-anchor="{at}">{escape(words)}</text>'
    )


def rect(area: Box, fill: str, stroke: str, radius: int = 10, extra: str = "") -> str:
    x, y, width, height = area
    place = f'x="{x}" y="{y}" width="{width}" height="{height}" rx="{radius}"'
    return f'<rect {place} fill="{fill}" stroke="{stroke}"{extra}/>'


def panel(area: Box, title: str, command: str, accent: str, tint: str) -> list[str]:
    x, y, width, _ = area
    bar = f'<path d="M{x} {y + 48} v-34 a14 14 0 0 1 14 -14 h{width - 28} a14 14 0 0 1 14 14 v34 z" fill="{accent}"/>'
    return [
        rect(area, tint, accent, 14),
        bar,
        text(x + 20, y + 31, title, 18, "#ffffff", 700),
        text(x + width - 20, y + 31, command, 15, "#ffffff", 400, "end"),
    ]


def box(area: Box, title: str, lines: list[str], accent: str, number: str = "") -> list[str]:
    x, y, width, height = area
    first = y + (height - 17 * len(lines)) / 2 + 5
    parts = [rect(area, PAPER, accent), text(x + width / 2, first, title, 15, accent, 700, "middle")]
    parts += [text(x + width / 2, first + 18 + 17 * i, line, 13, INK, 400, "middle") for i, line in enumerate(lines)]
    if number:
        parts += badge(x + 3, y + 3, number, accent)
    return parts


def arrow(points: list[tuple[float, float]], colour: str, *, both: bool = False) -> str:
    path = "M" + " L".join(f"{x:g} {y:g}" for x, y in points)
    start = f' marker-start="url(#{_head(colour)})"' if both else ""
    return (
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"{start} marker-end="url(#{_head(colour)})"/>'
    )


def _head(colour: str) -> str:
    return "head-" + colour.lstrip("#")


def _heads() -> str:
    shape = '<path d="M0 0 L10 5 L0 10 z" fill="{0}"/>'
    size = 'viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto-start-reverse"'
    heads = "".join(f'<marker id="{_head(c)}" {size}>{shape.format(c)}</marker>' for c in (PI, HOST))
    return f"<defs>{heads}</defs>"


def _right(area: Box) -> int:
    return area[0] + area[2]


def _bottom(area: Box) -> int:
    return area[1] + area[3]


def pi_side() -> list[str]:
    return [
        *panel((24, 24, 452, 622), "Raspberry Pi", "pi-agent", PI, PI_TINT),
        text(44, 98, "At night: collect labels inside the quota", 14, GREY, 600),
        *box(QUEUE, "queue", ["pictures,", "best first"], PI),
        *box(LEDGER, "ledger", ["reserve, send,", "settle"], PI, "1"),
        *box(TRANSPORT, "transport", ["one request,", "no retries"], PI),
        *box(CACHE, "label cache", ["every answer, kept for good:", "asking again costs nothing"], PI),
        *box(EXPORT, "export", ["images and", "answers"], PI),
        arrow([(_right(QUEUE), 154), (LEDGER[0], 154)], PI),
        arrow([(_right(LEDGER), 154), (TRANSPORT[0], 154)], PI, both=True),
        arrow([(248, _bottom(LEDGER)), (248, CACHE[1])], PI),
        text(238, 227, "settled with its answer", 13, GREY, 400, "end"),
        arrow([(_right(CACHE), 286), (EXPORT[0], 286)], PI),
        f'<path d="M44 356 H456" stroke="{LINE}" stroke-width="1.5"/>',
        text(44, 386, "In a dispute: whose model is this file?", 14, GREY, 600),
        rect((200, 402, 270, 108), "none", PI, 12, ' stroke-dasharray="5 5"'),
        *box(CHILD, "limited child", ["runs the inspected ONNX file;", "no writing, little memory, time"], PI),
        *box(EXACT, "verify", ["composites by the secret rules,", "one exact p-value"], PI, "3"),
        *box(VERDICT, "verdict", ["owned, not owned", "or inconclusive"], PI),
        arrow([(300, EXACT[1]), (300, _bottom(CHILD))], PI),
        arrow([(370, _bottom(CHILD)), (370, EXACT[1])], PI),
        text(290, 532, "pictures", 13, GREY, 400, "end"),
        text(380, 532, "scores", 13, GREY),
        arrow([(EXACT[0], 587), (_right(VERDICT), 587)], PI),
    ]


def host_side() -> list[str]:
    return [
        *panel((724, 24, 452, 622), "Training host", "train-host", HOST, HOST_TINT),
        text(744, 98, "Owner: serve a marked model behind a quota", 14, GREY, 600),
        *box(SERVE, "serve", ["key, quota, prediction;", "locks out above it"], HOST, "2"),
        *box(VICTIM, "victim", ["trained with the", "owner's secret rules"], HOST),
        *box(KEY, "watermark key", ["draws the rules;", "its hash is published"], HOST),
        *box(CLAIM, "claim", ["key, carrier pictures,", "hash of the victim"], HOST),
        arrow([(VICTIM[0], 154), (_right(SERVE), 154)], HOST),
        arrow([(1068, KEY[1]), (1068, _bottom(VICTIM))], HOST),
        arrow([(1068, _bottom(KEY)), (1068, CLAIM[1])], HOST),
        text(1058, 440, "kept until", 13, GREY, 400, "end"),
        text(1058, 457, "a dispute", 13, GREY, 400, "end"),
        rect((734, 216, 200, 284), "none", HOST, 12, ' stroke-dasharray="5 5"'),
        text(834, 237, "adversary, permitted", 14, GREY, 600, "middle"),
        *box(DISTILL, "distill", ["trains a substitute", "on the answers"], HOST),
        *box(SCORE, "score", ["100 = a perfect copy"], HOST),
        *box(EXPORT_ONNX, "export", ["float or int8 ONNX"], HOST),
        arrow([(834, _bottom(DISTILL)), (834, SCORE[1])], HOST),
        arrow([(834, _bottom(SCORE)), (834, EXPORT_ONNX[1])], HOST),
    ]


def between() -> list[str]:
    middle = 600
    return [
        arrow([(_right(TRANSPORT), 134), (SERVE[0], 134)], PI),
        text(middle, 124, "query image (JPEG, HTTP)", 13, PI, 600, "middle"),
        arrow([(SERVE[0], 174), (_right(TRANSPORT), 174)], HOST),
        text(middle, 164, "scores, and what is left", 13, HOST, 600, "middle"),
        arrow([(_right(EXPORT), 286), (DISTILL[0], 286)], PI),
        text(middle, 276, "transfer set (.tar)", 13, PI, 600, "middle"),
        arrow([(EXPORT_ONNX[0], 457), (_right(CHILD), 457)], HOST),
        text(middle, 447, "suspect: model.onnx", 13, HOST, 600, "middle"),
        arrow([(CLAIM[0], 587), (_right(EXACT), 587)], HOST),
        text(middle, 577, "claim.json, carriers.tar", 13, HOST, 600, "middle"),
    ]


def badge(x: float, y: float, number: str, accent: str) -> list[str]:
    return [
        f'<circle cx="{x:g}" cy="{y:g}" r="12" fill="{accent}" stroke="{PAPER}" stroke-width="2"/>',
        text(x, y + 5, number, 14, "#ffffff", 700, "middle"),
    ]


def footer() -> list[str]:
    notes = (
        (80, "1", PI, "here alone a query is spent"),
        (460, "2", HOST, "here alone the quota is enforced"),
        (860, "3", PI, "here alone the p-value is computed"),
    )
    parts = []
    for x, number, accent, words in notes:
        parts += [*badge(x, 672, number, accent), text(x + 22, 677, words, 14, GREY)]
    return parts


def draw() -> str:
    """The whole picture as SVG text."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="{FONT}" role="img" aria-labelledby="title">',
        '<title id="title">Magpie: a Raspberry Pi collects labels inside a quota and verifies models; '
        "a training host serves, distils and scores them</title>",
        _heads(),
        rect((1, 1, WIDTH - 2, HEIGHT - 2), PAPER, LINE, 18),
        *pi_side(),
        *host_side(),
        *between(),
        *footer(),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("system.svg").write_text(draw(), encoding="utf-8")
