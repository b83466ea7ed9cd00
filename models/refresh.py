"""Take the small artefacts of a finished demo into this folder: python models/refresh.py demo-run

Done rarely: the history keeps every version.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CARD = """# {name}

{what}. RecycleMe network ({arch}), 12 classes of rendered waste, {accuracy:.1f} % right on held-out pictures.

- verification against `../claim.json`: **{verdict}**, p = {p_value:.3g}, {hits} of {rules} rules, {queries} queries
- points against the victim (0 = the independent model, 100 = a perfect copy): {points}
- made by `train-host demo --seed {seed}` ({machine}); figures in `../results.json`
- licence MIT; for demonstrations and tests, not for sorting waste
"""


def refresh(run: Path) -> None:
    """Copy models, manifests, claim and carriers, and write a card for each model."""
    result = json.loads((run / "demo.json").read_text())
    for name, model in result["models"].items():
        folder = HERE / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for file in ("model.onnx", "manifest.json"):
            shutil.copyfile(run / name / file, folder / file)
        scores = result["scores"].get(name, {})
        points = ", ".join(f"{s} {v['points']:+.1f}" for s, v in scores.items()) or "not a copy"
        facts = {**result["verdicts"][name], **model, **result["plan"]}
        card = CARD.format(
            **{**facts, "name": name, "points": points, "accuracy": 100 * model["accuracy"]}, machine=result["machine"]
        )
        (folder / "CARD.md").write_text(card)
    for file in ("claim.json", "carriers.tar"):
        shutil.copyfile(run / file, HERE / file)
    kept = {key: result[key] for key in ("made_at", "machine", "plan", "models", "scores", "verdicts", "seconds")}
    (HERE / "results.json").write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    refresh(Path(sys.argv[1]))
