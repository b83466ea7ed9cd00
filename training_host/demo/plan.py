"""What a demo run does, and whether a folder holds the beginning of the same run."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from pi_agent.contract.errors import CannotCreate
from pi_agent.contract.files import make_folder, write_json

PLAN, RESULT = "plan.json", "demo.json"
KEY, CLAIM = "owner.key", "claim.json"
_OURS = ("data", "sets", "victim", "independent", "substitute", "substitute-int8", "server", "agent")
_OUR_FILES = (
    PLAN,
    RESULT,
    KEY,
    "owner.commitment.json",
    "owner.carriers.tar",
    CLAIM,
    "carriers.tar",
    "batch.tar",
    "nights.json",
    "transfer.tar",
    "report.html",
)


@dataclass(frozen=True)
class Plan:
    """Everything that decides the outcome. `data` empty: the rendered default data with `per_class` pictures each.

    `quota` queries per `period`, `windows` of them; `epochs` for each of the three trainings.
    """

    data: str
    arch: str
    epochs: int
    per_class: int
    quota: int
    period: str
    windows: int
    seed: int

    @property
    def queries(self) -> int:
        """Queries in all windows together."""
        return self.quota * self.windows


def open_folder(out: Path, plan: Plan) -> bool:
    """Make `out` ready and return whether an interrupted run of the same plan is there to go on with.

    A finished or another run of ours is cleared away; a folder with anything else in it is refused (73).
    """
    make_folder(out)
    content = {p.name for p in out.iterdir()}
    if content and PLAN not in content:
        raise CannotCreate(path=out, reason="the folder is not empty and not from a demo", hint="give another --out")
    resumed = False
    if PLAN in content:
        try:
            resumed = json.loads((out / PLAN).read_text()) == asdict(plan) and RESULT not in content
        except ValueError:
            resumed = False
    if not resumed:
        for name in _OURS:
            shutil.rmtree(out / name, ignore_errors=True)
        for name in _OUR_FILES:
            (out / name).unlink(missing_ok=True)
        write_json(out / PLAN, asdict(plan))
    return resumed
