"""Write `report.html` for a demo run: one file, pictures inside, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from pi_agent.contract.claim import draw_rules, load_key
from pi_agent.contract.files import atomic_write, read_json
from training_host.demo.plan import KEY
from training_host.demo.summary import HEADER, model_rows, quota_line
from training_host.report.figures import composites_png, l2_figure, nights_figure, shares_figure
from training_host.watermarks.keys import KeyFiles

_RULES_SHOWN = 4


def write_report(out: Path, result: dict[str, Any]) -> Path:
    """Render the page from `demo.json`'s content and the pictures in `out`; names from data are escaped."""
    files = KeyFiles(out / KEY)
    rules = draw_rules(load_key(files.key))[:_RULES_SHOWN]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("training_host.report", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("demo.html.j2").render(
        result=result,
        header=HEADER,
        rows=model_rows(result),
        quota=quota_line(result),
        nights=Markup(nights_figure(result)),
        l2=Markup(l2_figure(result)),
        shares=Markup(shares_figure(result)),
        rules=rules,
        commitment=read_json(files.commitment),
        composites=base64.b64encode(composites_png(Path(result["plan"]["data"] or out / "data"), rules)).decode(),
    )
    path = out / "report.html"
    with atomic_write(path) as stream:
        stream.write(page.encode())
    return path
