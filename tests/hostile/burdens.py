"""Models whose operators are all honest, and that burn time or memory, crash or lie when they are run."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.hostile.suspects import HONEST, Hostile, model, with_parts
from tests.support_models import make, with_extra

Node = helper.make_node
LARGE = 10**10


def reduced(*nodes: onnx.NodeProto, **weights: object) -> onnx.ModelProto:
    """The honest model and a tensor `huge` that the nodes make, reduced to one number and added to all answers."""
    arrays = {name: np.asarray(value) for name, value in weights.items()}
    last = [
        Node("Cast", ["huge"], ["floats"], to=TensorProto.FLOAT),
        Node("ReduceMax", ["floats"], ["burden"], keepdims=0),
    ]
    return with_extra(*nodes, *last, **arrays)


def memory() -> Iterator[Hostile]:
    """A few bytes that become terabytes."""
    sizes = {"40-gb": LARGE, "overflow": 2**61, "exabytes": 2**62 - 1}
    for name, size in sizes.items():
        yield model(f"constant-of-{name}", reduced(Node("ConstantOfShape", ["n"], ["huge"]), n=[size]))
    yield model("constant-of-overflowing-sides", reduced(Node("ConstantOfShape", ["n"], ["huge"]), n=[2**33, 2**33]))
    one = np.ones(1, np.float32)
    yield model("expand", reduced(Node("Expand", ["x", "n"], ["huge"]), x=one, n=[LARGE]))
    yield model("tile", reduced(Node("Tile", ["x", "n"], ["huge"]), x=one, n=[10**9 * 4]))
    yield model("pad", reduced(Node("Pad", ["x", "n"], ["huge"]), x=one, n=[LARGE, LARGE]))
    yield model(
        "one-hot", reduced(Node("OneHot", ["x", "n", "v"], ["huge"]), x=[1], n=[LARGE], v=np.zeros(2, np.float32))
    )
    yield model(
        "eye", reduced(Node("ConstantOfShape", ["n"], ["c"]), Node("EyeLike", ["c"], ["huge"]), n=[200_000, 200_000])
    )
    yield model(
        "range", reduced(Node("Range", ["a", "b", "c"], ["huge"]), a=np.int64(0), b=np.int64(2**62), c=np.int64(1))
    )
    nothing = Node("Range", ["a", "b", "c"], ["huge"])
    yield model("range-of-steps-0", reduced(nothing, a=np.float32(0), b=np.float32(1), c=np.float32(0)))
    yield model("range-to-nan", reduced(nothing, a=np.float32(0), b=np.float32("nan"), c=np.float32(1)))
    picture = np.ones((1, 1, 2, 2), np.float32)
    resize = Node("Resize", ["x", "", "s"], ["huge"])
    for name, scale in {"million": 1e6, "infinite": np.inf, "nan": np.nan, "negative": -1e9}.items():
        yield model(f"resize-{name}", reduced(resize, x=picture, s=np.array([1, 1, scale, scale], np.float32)))
    outer = Node("Einsum", ["x", "x", "x"], ["huge"], equation="i,j,k->ijk")
    yield model("einsum", reduced(outer, x=np.ones(20_000, np.float32)))
    transposed = Node("ConvTranspose", ["x", "w"], ["huge"], strides=[10**6, 10**6])
    yield model("transposed-convolution", reduced(transposed, x=picture, w=picture))
    padded = Node("Conv", ["x", "w"], ["huge"], pads=[2**40] * 4, dilations=[2**31, 2**31])
    yield model("convolution-of-nothing", reduced(padded, x=picture, w=picture))
    depth = Node("DepthToSpace", ["x"], ["huge"], blocksize=2**31)
    yield model("depth-to-space", reduced(depth, x=picture))
    doubling = [Node("Concat", [f"c{i}", f"c{i}"], [f"c{i + 1}"], axis=0) for i in range(45)]
    yield model("doubled-45-times", reduced(*doubling, Node("Identity", ["c45"], ["huge"]), c0=one))
    gather = Node("GatherND", ["x", "i"], ["huge"])
    yield model("gather-beyond", reduced(gather, x=one, i=np.array([[2**40]])))


def time() -> Iterator[Hostile]:
    """Honest layers, more of them than anybody can wait for."""
    square = Node("ConstantOfShape", ["n"], ["m0"])
    products = [Node("MatMul", [f"m{i}", f"m{i}"], [f"m{i + 1}"]) for i in range(400)]
    yield model(
        "endless-products", reduced(square, *products, Node("Identity", ["m400"], ["huge"]), n=[2000, 2000]), slow=True
    )
    wide = Node("Conv", ["c", "c"], ["huge"], pads=[2000] * 4)
    yield model(
        "kernel-of-a-picture", reduced(Node("ConstantOfShape", ["n"], ["c"]), wide, n=[1, 1, 2000, 2000]), slow=True
    )
    pool = Node("AveragePool", ["c"], ["huge"], kernel_shape=[1501, 1501], pads=[750] * 4, count_include_pad=1)
    yield model(
        "pool-of-a-picture", reduced(Node("ConstantOfShape", ["n"], ["c"]), pool, n=[1, 1, 3000, 3000]), slow=True
    )
    sums = [Node("CumSum", [f"c{i}", "axis"], [f"c{i + 1}"]) for i in range(3000)]
    chain = (Node("ConstantOfShape", ["n"], ["c0"]), *sums, Node("Identity", ["c3000"], ["huge"]))
    yield model("sums-of-sums", reduced(*chain, n=[10_000_000], axis=np.int64(0)), slow=True)
    line = [Node("Relu", [f"r{i}"], [f"r{i + 1}"]) for i in range(19_900)]
    yield model(
        "chain-of-20000", reduced(*line, Node("Identity", ["r19900"], ["huge"]), r0=np.ones(1, np.float32)), slow=True
    )


def crashes() -> Iterator[Hostile]:
    """What has brought runtimes down: indices beyond, division by zero, nonsense in attributes and graphs."""
    whole = np.array([1], np.int32)
    yield model("divided-by-0", reduced(Node("Div", ["x", "y"], ["huge"]), x=whole, y=whole * 0))
    yield model("modulo-0", reduced(Node("Mod", ["x", "y"], ["huge"]), x=whole, y=whole * 0))
    yield model("least-by-minus-1", reduced(Node("Div", ["x", "y"], ["huge"]), x=whole * -(2**31), y=whole * -1))
    picture, beyond = np.ones((1, 1, 2, 2), np.float32), np.full((1, 1, 2, 2), 2**40)
    yield model(
        "unpool-beyond", reduced(Node("MaxUnpool", ["x", "i"], ["huge"], kernel_shape=[2, 2]), x=picture, i=beyond)
    )
    yield model("scatter-beyond", reduced(Node("ScatterElements", ["x", "i", "x"], ["huge"]), x=picture, i=beyond))
    yield model(
        "scatter-before", reduced(Node("ScatterND", ["x", "i", "u"], ["huge"]), x=picture, i=[[-(2**40)]], u=picture[0])
    )
    boxes = Node("RoiAlign", ["x", "r", "b"], ["huge"], output_height=2**30, output_width=2**30)
    yield model("boxes", reduced(boxes, x=picture, r=np.full((1, 4), 1e30, np.float32), b=[0]))
    yield model(
        "slice-of-nothing", reduced(Node("Slice", ["x", "a", "b"], ["huge"]), x=picture, a=[-(2**63)], b=[2**63 - 1])
    )
    yield model("reshape-overflow", reduced(Node("Reshape", ["x", "s"], ["huge"]), x=picture, s=[2**32, 2**32]))
    yield model("axis-beyond", reduced(Node("Concat", ["x", "x"], ["huge"], axis=2**62), x=picture))
    yield model("no-attributes", reduced(Node("Conv", ["x"], ["huge"]), x=picture))
    yield model("pads-backwards", reduced(Node("Conv", ["x", "x"], ["huge"], pads=[-9] * 4, strides=[0, 0]), x=picture))
    yield model("eats-its-own-answer", with_extra(Node("Relu", ["burden"], ["burden"])))
    yield model("made-of-nothing", with_extra(Node("Relu", ["absent"], ["burden"])))
    equation = ",".join("abcdefghijklmnopqrstuvwxyz") + "->"
    yield model(
        "einsum-of-the-alphabet",
        reduced(Node("Einsum", ["x"] * 26, ["huge"], equation=equation), x=np.ones(1, np.float32)),
    )


def wrong_ends() -> Iterator[Hostile]:
    """Answers that are no scores, and models that fit no picture."""
    for value in ("nan", "inf"):
        yield model(f"answers-{value}", with_extra(Node("Constant", [], ["burden"], value_float=float(value))))
    flat = Node("Flatten", ["image"], ["flat"])
    yield model("answers-12288-classes", make([Node("Flatten", ["image"], ["scores"])], answers=("n", 12288)))
    yield model("answers-pictures", make([Node("Identity", ["image"], ["scores"])], answers=("n", 3, 64, 64)))
    one = Node("ReduceMax", ["image"], ["scores"], keepdims=0)
    yield model("answers-one-number", make([one], answers=()))
    cut = Node("Slice", ["flat", "zero", "four"], ["scores"])
    weights = {"zero": np.array([0, 0]), "four": np.array([1, 4])}
    yield model("answers-the-first-only", make([flat, cut], weights, answers=("n", 4)))
    always = Node("Constant", [], ["scores"], value_floats=[0.0, 1.0])
    yield model("answers-without-looking", make([always], answers=(2,)))
    labels = [flat, Node("ArgMax", ["flat"], ["scores"], axis=1, keepdims=0)]
    yield model("answers-pixels-as-labels", make(labels, answers=("n",), answer_kind=TensorProto.INT64))
    kind = with_parts()
    kind.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    yield model("answers-another-type-than-declared", kind)
    seen = make([Node("Cast", ["image"], ["scores"], to=1)], shape=("n", 3, 64, 64), kind=TensorProto.INT64)
    yield model("sees-whole-numbers", seen)
    yield model("sees-a-line", make([Node("Identity", ["image"], ["scores"])], shape=("n",), answers=("n",)))
    yield model("sees-a-batch-of-2-billion", make([flat, cut], weights, shape=(2**31 - 1, 3, 64, 64)))
    yield model("sees-gigapixels", make([flat, cut], weights, shape=(1, 3, 2**20, 2**20)))
    mask = helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["n"])
    yield model("two-inputs", with_parts(input=mask))
    many = with_parts()
    many.graph.output.extend(helper.make_tensor_value_info(f"o{i}", 1, [1]) for i in range(5000))
    yield model("outputs-5000", many)
    none = with_parts()
    none.graph.ClearField("output")
    yield model("no-output", none)
    none = with_parts()
    none.ClearField("opset_import")
    yield model("no-opset", none)
    for version in (0, 10**6, 2**62):
        odd = with_parts()
        odd.opset_import[0].version = version
        yield model(f"opset-{version}", odd)
    odd = with_parts()
    odd.ir_version = 10**9
    yield model("ir-version-10^9", odd)
    lied = with_parts(value_info=helper.make_tensor_value_info("colour", TensorProto.FLOAT, [1]))
    assert lied.graph.node[0].output[0] == "colour", HONEST
    yield model("shape-in-between-that-lies", lied)
