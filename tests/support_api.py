"""Suspects behind an API: marked and honest models to serve, and what a server has counted."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from pi_agent.contract.claim import WatermarkKey
from pi_agent.contract.files import sha256_hex
from pi_agent.contract.manifest import Manifest, save_manifest
from pi_agent.prepare import decode_query
from tests.support_foreign import Request
from tests.support_models import bound_key, trained_readout, write_claim
from training_host.predictor import load_predictor

KEY, _ = bound_key()
QUESTIONS = 46
"""Ten rules with three composites each, eight classes with two ordinary pictures each."""


@functools.lru_cache
def _trained(key: WatermarkKey, obeyed: int, seed: int) -> bytes:
    found: bytes = trained_readout(key, obeyed, seed).SerializeToString()
    return found


def model_folder(
    path: Path,
    obeyed: int = 10,
    seed: int = 0,
    names: Sequence[str] = KEY.classes,
    order: Sequence[int] | None = None,
) -> Path:
    """A model that `train-host serve` takes; `order`: of its outputs, `names`: what it calls them."""
    path.mkdir(parents=True)
    model = onnx.load_from_string(_trained(KEY, obeyed, seed))
    for number, weights in enumerate(model.graph.initializer):
        columns = numpy_helper.to_array(weights)[..., list(order or range(len(KEY.classes)))]
        model.graph.initializer[number].CopyFrom(numpy_helper.from_array(np.array(columns), weights.name))
    data = model.SerializeToString()
    (path / "model.onnx").write_bytes(data)
    save_manifest(path, Manifest(path.name, "readout", tuple(names), sha256_hex(data), output="logits"))
    return path


def small_claim(folder: Path) -> Path:
    """A claim with `QUESTIONS` questions."""
    folder.mkdir(exist_ok=True)
    return write_claim(folder, KEY, queries=3, ordinary=2)


def counted(store: Path) -> list[tuple[int, int]]:
    """What the server admitted and refused, window by window."""
    with contextlib.closing(sqlite3.connect(store)) as rows:
        return rows.execute("SELECT counted, refused FROM quota ORDER BY window_start").fetchall()


def naming(folder: Path, refuses: Callable[[bytes], tuple[int, Any] | None]) -> Callable[[Request], tuple[int, Any]]:
    """An API that tells the label of a picture and no more, unless `refuses` has another answer for it."""
    predictor = load_predictor(folder)

    def api(request: Request) -> tuple[int, Any]:
        if request.method != "POST":
            return 404, {}
        other = refuses(request.body)
        best = int(predictor.scores(decode_query(request.body)).argmax()) if other is None else 0
        return other or (200, {"class": predictor.classes[best]})

    return api


LABELS = f"""
[http]
path = "/classify"
probe = ""
result = "label"
label = "class"
class_names = {list(KEY.classes)}
""".replace("'", '"')
