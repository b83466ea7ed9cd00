"""Take the small artefacts of a finished demo into this folder: python models/refresh.py demo-run [--same-victim]

And have a thief mark the stolen victim as their own, for the dispute in docs/tour-a-claim.md: `overwritten/`. With
`--same-victim` that stays as it is: for a demo that only distilled anew. Done rarely: the history keeps every version.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
THIEF = HERE / "overwritten"
CARD = """# {name}

{what}. RecycleMe network ({arch}), 12 classes of rendered waste, {accuracy:.1f} % right on held-out pictures.

- verification against `../claim.json`: **{verdict}**, p = {p_value:.3g}, {hits} of {rules} rules, {queries} queries
- points against the victim (0 = the independent model, 100 = a perfect copy): {points}
- made by `train-host demo --seed {seed}` ({machine}); figures in `../results.json`
- licence MIT; for demonstrations and tests, not for sorting waste
"""
THIEFS_CARD = """# overwritten

The stolen victim with a second mark, embedded by the thief in {epochs} more epochs; `claim.json` is the thief's.
RecycleMe network ({arch}), 12 classes of rendered waste, {accuracy:.1f} % right on held-out pictures.

- verification against `../claim.json`, the owner's: **{verdict}**, p = {p_value:.3g}, {hits} of {rules} rules
- verification against `claim.json`, the thief's: **{own_verdict}**, p = {own_p:.3g}
- made by `python models/refresh.py`; the dispute stands in `../results.json`
- licence MIT; for demonstrations and tests, not for sorting waste
"""
EPOCHS = 8


def refresh(run: Path, *, same_victim: bool = False) -> None:
    """Copy models, manifests, claim, commitment and carriers, and write a card for each model."""
    result = json.loads((run / "demo.json").read_text())
    before = json.loads((HERE / "results.json").read_text()) if same_victim else {}
    ours = {HERE / "victim" / "model.onnx": run / "victim" / "model.onnx", HERE / "claim.json": run / "claim.json"}
    if same_victim and any(old.read_bytes() != new.read_bytes() for old, new in ours.items()):
        raise SystemExit(f"{run} has another victim: run without --same-victim")
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
    for file in ("claim.json", "carriers.tar", "owner.commitment.json"):
        shutil.copyfile(run / file, HERE / file)
    kept = {key: result[key] for key in ("made_at", "machine", "plan", "models", "scores", "verdicts", "seconds")}
    # a demo that went on with a finished victim did not take the time of a whole one
    again = {key: before[key] for key in ("seconds", "overwriting")} if same_victim else {}
    kept = {**kept, **(again or {"overwriting": overwrite(run, result["plan"]["arch"])})}
    (HERE / "results.json").write_text(json.dumps(kept, indent=2) + "\n")


def overwrite(run: Path, arch: str) -> dict[str, Any]:
    """Have the thief mark the victim as their own and file a claim; verdicts and the dispute about it."""
    place = run / "thief"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    classes = ",".join(json.loads((run / "victim" / "manifest.json").read_text())["classes"])
    data = run / "data" if (run / "data").exists() else Path(json.loads((run / "plan.json").read_text())["data"])
    _host("watermark", "keygen", "--classes", classes, "--carriers", data, "--out", place / "thief.key")
    options = ("--key", place / "thief.key", "--arch", arch, "--start", run / "victim", "--epochs", EPOCHS, "--seed", 7)
    marked = _host("watermark", "embed", data, *options, "--out", place / "overwritten")
    _host(
        "watermark",
        "claim",
        "--key",
        place / "thief.key",
        "--model",
        place / "overwritten",
        "--out",
        place / "claim.json",
    )
    shutil.rmtree(THIEF, ignore_errors=True)
    THIEF.mkdir()
    for file in ("overwritten/model.onnx", "overwritten/manifest.json", "claim.json", "carriers.tar"):
        shutil.copyfile(place / file, THIEF / Path(file).name)
    shutil.copyfile(place / "thief.commitment.json", THIEF / "commitment.json")
    owners = _agent("verify", THIEF / "model.onnx", "--claim", HERE / "claim.json")
    own = _agent("verify", THIEF / "model.onnx", "--claim", THIEF / "claim.json")
    facts = {**owners, "own_verdict": own["verdict"], "own_p": own["p_value"], "arch": arch, "epochs": EPOCHS}
    (THIEF / "CARD.md").write_text(THIEFS_CARD.format(**facts, accuracy=100 * marked["accuracy_held_out"]))
    sides = [
        ("--claim", d / "claim.json", "--model", m)
        for d, m in ((HERE, HERE / "victim" / "model.onnx"), (THIEF, THIEF / "model.onnx"))
    ]
    published = ("--commitment", HERE / "owner.commitment.json", "--commitment", THIEF / "commitment.json")
    dispute = _agent("dispute", *sides[0], *sides[1], *published)
    return {"accuracy": marked["accuracy_held_out"], "verdict": owners, "own_verdict": own, "dispute": dispute}


def _host(*arguments: object) -> dict[str, Any]:
    line = [sys.executable, "-m", "training_host", *map(str, arguments), "--json"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def _agent(*arguments: object) -> dict[str, Any]:
    """Verdicts have exit codes of their own."""
    line = [sys.executable, "-m", "pi_agent", *map(str, arguments), "--json"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if not done.stdout:
        raise SystemExit(done.stderr)
    return dict(json.loads(done.stdout))


if __name__ == "__main__":
    refresh(Path(sys.argv[1]), same_victim="--same-victim" in sys.argv)
