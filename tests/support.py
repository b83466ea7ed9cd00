"""Small things that several tests need, made on the spot: nothing is downloaded, nothing needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pi_agent.contract.files import sha256_hex
from pi_agent.contract.images import SIDE
from pi_agent.contract.manifest import Manifest, save_manifest
from pi_agent.prepare import encode_query

CLASSES = ("cardboard", "glass", "metal", "trash")


def tiny_model_folder(path: Path, classes: Sequence[str] = CLASSES, seed: int = 0, output: str = "scores") -> Path:
    """Write `model.onnx` and `manifest.json` into `path` and return it.

    The network looks at the mean colour: (n, 3, 64, 64) -> average -> matrix -> softmax. `output="logits"` leaves the
    softmax out. Colours give clearly different answers, and every seed another network.
    """
    path.mkdir(parents=True, exist_ok=True)
    weights = np.random.default_rng(seed).normal(0, 4, (3, len(classes))).astype(np.float32)
    last = "logits" if output == "logits" else "scores"
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["colour"]),
        helper.make_node("MatMul", ["colour", "weights"], ["logits"]),
    ]
    if last == "scores":
        nodes.append(helper.make_node("Softmax", ["logits"], ["scores"], axis=1))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 64, 64])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["n", len(classes)])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    data = model.SerializeToString()
    (path / "model.onnx").write_bytes(data)
    save_manifest(path, Manifest(path.name, "tiny", tuple(classes), sha256_hex(data), output=output))
    return path


def query_jpeg(seed: int = 0) -> bytes:
    """A ready query image: one random colour with a little noise on it."""
    rng = np.random.default_rng(seed)
    colour = rng.integers(30, 226, 3) + rng.integers(-20, 20, (SIDE, SIDE, 3))
    return encode_query(colour.clip(0, 255).astype(np.uint8))
