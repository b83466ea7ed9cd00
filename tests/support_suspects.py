"""Classifiers in every honest shape, and what numpy says that they must answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from pi_agent.contract.manifest import InputSpec
from pi_agent.prepare import shrink_to
from tests.support_models import make

KINDS = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "float64": TensorProto.DOUBLE,
    "uint8": TensorProto.UINT8,
    "int8": TensorProto.INT8,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
    "bfloat16": TensorProto.BFLOAT16,
}


@dataclass(frozen=True)
class Place:
    """A linear classifier that looks at the pixels of four corners and of the middle: turned pictures answer otherwise.

    `shape` as the model declares it, `layout` as it works; `dtype` of its input.
    """

    layout: str = "NCHW"
    shape: tuple[int | str, ...] = ("n", 3, 64, 64)
    dtype: str = "float32"
    classes: int = 4
    seed: int = 0

    def weights(self) -> npt.NDArray[np.float32]:
        """(15, classes): three colours at each of the five places."""
        return np.random.default_rng(self.seed).normal(0, 1, (15, self.classes)).astype(np.float32)

    def nodes(self, to: str = "scores") -> list[NodeProto]:
        """From `image` to `to`, float32 (n, classes)."""
        corner = {"NCHW": [2, 3], "NHWC": [1, 2]}[self.layout]
        nodes = [helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT)]
        for i, (row, column) in enumerate(((0, 0), (0, -1), (-1, 0), (-1, -1), (5, 2))):
            for name, (index, source, axis) in {
                f"row{i}": (row, "pixels", corner[0]),
                f"dot{i}": (column, f"row{i}", corner[0]),
            }.items():
                nodes.append(helper.make_node("Constant", [], [f"{name}at"], value_int=index))
                nodes.append(helper.make_node("Gather", [source, f"{name}at"], [name], axis=axis))
        dots = [f"dot{i}" for i in range(5)]
        return [
            *nodes,
            helper.make_node("Concat", dots, ["looked"], axis=1),
            helper.make_node("MatMul", ["looked", "weights"], [to]),
        ]

    def model(
        self, *after: NodeProto, outputs: Sequence[tuple[str, str, Sequence[int | str] | None]] = (), to: str = "scores"
    ) -> onnx.ModelProto:
        """The nodes above, `after`, and the declared outputs (name, dtype, shape); without them `scores` alone."""
        batch = self.shape[0]
        model = make([*self.nodes(to), *after], {"weights": self.weights()}, shape=self.shape, kind=KINDS[self.dtype])
        del model.graph.output[:]
        for name, dtype, shape in outputs or [("scores", "float32", (batch, self.classes))]:
            model.graph.output.append(helper.make_tensor_value_info(name, KINDS[dtype], shape))
        return model

    def expected(
        self, pictures: Sequence[npt.NDArray[np.uint8]], spec: InputSpec, size: tuple[int, int] | None = None
    ) -> npt.NDArray[np.float64]:
        """What numpy computes, (n, classes), without the agent's own way to make a batch."""
        own = InputSpec(size=size or spec.size, resize=spec.resize)
        pixels = np.stack([shrink_to(picture, own) for picture in pictures]).astype(np.float64)
        if self.dtype == "int8":
            pixels = pixels - 128
        elif self.dtype != "uint8":
            pixels = (pixels * spec.scale - np.array(spec.mean)) / np.array(spec.std)
        places = ((0, 0), (0, -1), (-1, 0), (-1, -1), (5, 2))
        return np.concatenate([pixels[:, row, column] for row, column in places], axis=1) @ self.weights()


def unsqueezed(axes: Sequence[int], source: str, to: str) -> list[NodeProto]:
    """Nodes that put dimensions of one in."""
    return [
        helper.make_node("Constant", [], [f"{to}axes"], value_ints=list(axes)),
        helper.make_node("Unsqueeze", [source, f"{to}axes"], [to]),
    ]


def conv_net(classes: int = 4, seed: int = 0) -> onnx.ModelProto:
    """Convolution, ReLU, pooling, convolution, mean, dense: small enough to quantise in a test."""
    rng = np.random.default_rng(seed)
    shapes = {"k1": (8, 3, 5, 5), "b1": (8,), "k2": (16, 8, 3, 3), "b2": (16,), "w": (16, classes), "b": (classes,)}
    weights = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["image", "k1", "b1"], ["c1"], strides=[2, 2], name="first"),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "k2", "b2"], ["c2"], name="second"),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("GlobalAveragePool", ["r2"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["scores"], name="dense"),
    ]
    return make(nodes, weights, answers=("n", classes))


def listed_as_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model as old exporters write it: every initializer is an input too."""
    for tensor in model.graph.initializer:
        shape = numpy_helper.to_array(tensor).shape
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, shape))
    return model
