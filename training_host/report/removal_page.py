"""Write `report.html` for a removal suite: one file, its figure inside, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from pi_agent.contract.files import atomic_write
from training_host.removal.summary import FAILED, HEADER, lines, rows_of
from training_host.report.removal_figures import frontier_figure


def write_removal_report(out: Path, result: Mapping[str, Any]) -> Path:
    """Render the page from the content of `results.json`; everything from data is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("training_host.report", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("removal.html.j2").render(
        result=result,
        header=HEADER,
        rows=rows_of(result),
        sentences=[line[0].upper() + line[1:] for line in lines(result)],
        failed=FAILED,
        frontier=Markup(frontier_figure(result)),
    )
    path = out / "report.html"
    with atomic_write(path) as stream:
        stream.write(page.encode())
    return path
