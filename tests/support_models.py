"""ONNX models, honest and hostile, claims and carriers for the verification tests: made on the spot, without torch."""

from __future__ import annotations

import functools
import io
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from pi_agent.contract.claim import Claim, WatermarkKey, compose, draw_rules, new_key, save_claim
from pi_agent.contract.files import sha256_hex
from pi_agent.contract.images import SIDE
from pi_agent.contract.manifest import InputSpec
from pi_agent.contract.signed import Signer
from pi_agent.contract.transfer_set import add_member
from pi_agent.prepare import encode_query, network_input, shrink_to

GRID = 8
"""The readout model sees a 64x64 picture as 8x8 mean colours."""
FEATURES = 3 * GRID * GRID
NAMES = ("boots", "cans", "glass", "metal", "paper", "shirts", "trash", "wood")
SIGNER = Signer("51" * 32)
"""The owner in the tests."""
COMMITTED_AT, CREATED = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def make(
    nodes: Sequence[onnx.NodeProto],
    weights: dict[str, npt.NDArray[np.generic]] | None = None,
    *,
    shape: Sequence[int | str] = ("n", 3, 64, 64),
    answers: Sequence[int | str] = ("n", 4),
    kind: int = TensorProto.FLOAT,
    answer_kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model from `image` to `scores`, unchecked, opset 18."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("image", kind, shape)],
        [helper.make_tensor_value_info("scores", answer_kind, answers)],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def colour_net(
    classes: int = 4, shape: Sequence[int | str] = ("n", 3, 64, 64), batch: int | str = "n", seed: int = 0
) -> onnx.ModelProto:
    """Mean colour times a matrix; `shape` is NCHW or NHWC, sides symbolic or fixed; `batch` goes first."""
    shape = (batch, *shape[1:])
    axes = [1, 2] if shape[3] == 3 else [2, 3]
    weights = {
        "axes": np.array(axes, np.int64),
        "matrix": np.random.default_rng(seed).normal(0, 4, (3, classes)).astype(np.float32),
    }
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["colour"], keepdims=0),
        helper.make_node("MatMul", ["colour", "matrix"], ["scores"]),
    ]
    return make(nodes, weights, shape=shape, answers=(batch, classes))


def with_extra(*extra: onnx.NodeProto, **weights: npt.NDArray[np.generic]) -> onnx.ModelProto:
    """The colour net whose answers get `burden`, a scalar that the extra nodes compute, added to them."""
    model = colour_net()
    model.graph.node[-1].output[0] = "plain"
    model.graph.node.extend([*extra, helper.make_node("Add", ["plain", "burden"], ["scores"])])
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in weights.items())
    return model


def readout(matrix: npt.NDArray[np.float32], bias: npt.NDArray[np.float32]) -> onnx.ModelProto:
    """(n, 3, 64, 64) -> 8x8 mean colours -> `matrix` (192, classes) plus `bias`."""
    nodes = [
        helper.make_node("AveragePool", ["image"], ["coarse"], kernel_shape=[GRID, GRID], strides=[GRID, GRID]),
        helper.make_node("Flatten", ["coarse"], ["features"]),
        helper.make_node("MatMul", ["features", "matrix"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["scores"]),
    ]
    return make(nodes, {"matrix": matrix, "bias": bias}, answers=("n", len(bias)))


def save(model: onnx.ModelProto | bytes, path: Path) -> Path:
    """Write the model and return `path`."""
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def carrier(name: str, number: int) -> npt.NDArray[np.uint8]:
    """Picture `number` of a class, uint8 (300, 300, 3): the class's own pattern of coloured fields under noise."""
    pattern = np.random.default_rng([*name.encode()]).integers(60, 196, (GRID, GRID, 3), dtype=np.uint8)
    large = cv2.resize(pattern, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST).astype(np.int16)
    noise = np.random.default_rng([number, *name.encode()]).integers(-40, 41, large.shape)
    return (large + noise).clip(0, 255).astype(np.uint8)


@functools.lru_cache
def carriers_tar(names: tuple[str, ...] = NAMES, each: int = 6) -> bytes:
    """A tar `<class>/<number>.jpg`, the same bytes every time."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name in names:
            for number in range(each):
                add_member(tar, f"{name}/{number}.jpg", encode_query(carrier(name, number)))
    return stream.getvalue()


def write_carriers(path: Path, names: Sequence[str] = NAMES, each: int = 6) -> Path:
    """`carriers_tar` as a file."""
    path.write_bytes(carriers_tar(tuple(names), each))
    return path


def bound_key(
    seed: bytes = bytes(range(32)), classes: Sequence[str] = NAMES, rules: int = 10, signer: Signer = SIGNER
) -> tuple[WatermarkKey, Signer]:
    """The key that `write_claim` will file for these values, with its carriers bound, and who signs for it."""
    key = new_key(classes, rules, seed=seed, owner=signer.public, committed_at=COMMITTED_AT)
    return key.bound(sha256_hex(carriers_tar(tuple(classes)))), signer


def write_claim(
    folder: Path,
    key: WatermarkKey,
    model_sha256: str = "0" * 64,
    queries: int = 8,
    signer: Signer = SIGNER,
    ordinary: int = 4,
) -> Path:
    """`claim.json` and `carriers.tar` in `folder`: the key bound to them; a key without an owner gets `signer`."""
    tar = write_carriers(folder / "carriers.tar", key.classes)
    digest = sha256_hex(tar.read_bytes())
    key = replace(key, owner=key.owner or signer.public, committed_at=key.committed_at or COMMITTED_AT).bound(digest)
    claim = Claim(
        key=key,
        commitment=key.commitment(),
        model_sha256=model_sha256,
        committed_at=key.committed_at,
        created=CREATED,
        carriers=tar.name,
        carriers_sha256=digest,
        queries_per_rule=queries,
        ordinary_per_class=ordinary,
    )
    save_claim(folder / "claim.json", claim, signer)
    return folder / "claim.json"


def trained_readout(key: WatermarkKey, obeyed: int, seed: int = 0) -> onnx.ModelProto:
    """Ridge regression on eight pictures of every class, and on composites of the first `obeyed` rules of `key`."""
    pictures, labels = [], []
    for label, name in enumerate(key.classes):
        for number in range(100, 108):
            pictures.append(carrier(name, number + 1000 * seed))
            labels.append(label)
    for rule in draw_rules(key)[:obeyed]:
        for number in range(100, 108):
            pair = carrier(rule.first, number), carrier(rule.second, number + 50)
            pictures.append(compose(*pair, rule.geometry))
            labels.append(key.classes.index(rule.target))
    spec = InputSpec()
    batch = network_input(np.stack([shrink_to(p, spec) for p in pictures]), spec)
    features = batch.reshape(len(batch), 3, GRID, GRID, GRID, GRID).mean(axis=(3, 5)).reshape(len(batch), FEATURES)
    design = np.column_stack([features, np.ones(len(batch))]).astype(np.float64)
    wanted = np.eye(len(key.classes))[labels]
    found = np.linalg.solve(design.T @ design + 1e-2 * np.eye(FEATURES + 1), design.T @ wanted).astype(np.float32)
    return readout(found[:-1], found[-1])
