"""A model as it is shipped: its ONNX file, run as its manifest says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from pi_agent.contract.answers import SUM_TOLERANCE
from pi_agent.contract.errors import RefusedInput, RefusedModel
from pi_agent.contract.files import read_limited, sha256_hex
from pi_agent.contract.images import SIDE
from pi_agent.contract.manifest import Manifest, load_manifest
from pi_agent.prepare import Pixels, network_input, shrink_to

MODEL_NAME = "model.onnx"
MAX_MODEL_BYTES = 2**31 - 1
"""A protobuf cannot be larger."""

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Predictor:
    """A loaded model of our own, its manifest and its folder. Threads may share it."""

    folder: Path
    manifest: Manifest
    session: ort.InferenceSession

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the scores."""
        return self.manifest.classes

    def scores(self, pixels: Pixels) -> Scores:
        """Scores of one picture, uint8 (300, 300, 3) RGB, as float32 (classes,), non-negative, summing to one.

        Raises `ValueError` where the model gives anything else.
        """
        return np.asarray(self.scores_of(shrink_to(pixels, self.manifest.input)[None])[0])

    def scores_of(self, images: Pixels, batch: int = 64) -> Scores:
        """Scores, float32 (n, classes), of uint8 pictures (n, height, width, 3) that have the network's size already.

        Raises `ValueError` where the model gives anything else.
        """
        name = self.session.get_inputs()[0].name
        parts = []
        for start in range(0, len(images), batch):
            inputs = network_input(images[start : start + batch], self.manifest.input)
            parts.append(np.asarray(self.session.run(None, {name: inputs})[0], dtype=np.float64))
        found = np.concatenate(parts)
        if found.shape != (len(images), len(self.classes)) or not np.isfinite(found).all():
            raise ValueError(f"the model's output {found.shape} is not one finite number for each of its classes")
        scores = softmax(found) if self.manifest.output == "logits" else found
        if scores.min() < 0 or np.abs(scores.sum(axis=1) - 1).max() > SUM_TOLERANCE:
            raise ValueError("the model's output does not look like scores: they are negative or do not sum to one")
        return scores.astype(np.float32)


def softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Softmax of every row; shifting by the maximum first keeps the exponentials finite."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def load_predictor(model: Path, threads: int = 1) -> Predictor:
    """Load a model folder, or an ONNX file with its manifest beside it, and try it on a black picture.

    `threads`: processor threads for one prediction. Raises `RefusedModel` (65) where the file does not have the hash in
    its manifest, cannot be run, or gives no scores.
    """
    path = model / MODEL_NAME if model.is_dir() else model
    try:
        data = read_limited(path, MAX_MODEL_BYTES)
    except RefusedInput as exc:
        raise RefusedModel(path=path, reason=exc.fields["reason"], hint=exc.advice) from exc
    manifest = load_manifest(path.parent)
    if sha256_hex(data) != manifest.onnx_sha256:
        raise RefusedModel(
            path=path, reason="its SHA-256 is not the one in its manifest", hint="the file was changed: export it again"
        )
    if manifest.output == "embedding":
        raise RefusedModel(path=path, reason="it gives embeddings, not scores", hint="serve a classifier")
    predictor = Predictor(path.parent, manifest, _session(data, path, threads))
    try:
        predictor.scores(np.zeros((SIDE, SIDE, 3), np.uint8))
    except Exception as exc:  # onnxruntime's errors share no base class of their own
        raise RefusedModel(path=path, reason=_first_line(exc), hint="it does not fit its manifest") from exc
    return predictor


def _session(data: bytes, path: Path, threads: int) -> ort.InferenceSession:
    options: Any = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong arrives as an exception; we say it once, in our own words
    # The hash covers this file only, so weights in other files must not be followed: below /dev/null there are none.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", "/dev/null")
    try:
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as exc:
        raise RefusedModel(path=path, reason=_first_line(exc)) from exc


def _first_line(exc: Exception) -> str:
    return str(exc).partition("\n")[0][:300]
