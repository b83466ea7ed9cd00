"""ONNX files to be refused unrun: data elsewhere, code of their own, lies about sizes, twisted protobuf."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import AttributeProto, TensorProto, helper

from tests.hostile.protobuf import encode, write
from tests.hostile.suspects import HONEST, Hostile, model, with_graph_bytes, with_node, with_node_bytes, with_parts
from tests.support_models import save, with_extra


def stolen(location: str, **more: str) -> TensorProto:
    """A tensor of 12 floats that are in another file."""
    tensor = TensorProto(name="stolen", data_type=1, dims=[3, 4], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def elsewhere() -> Iterator[Hostile]:
    """External data, in every place where a tensor can stand."""
    where = "tensor 'stolen': it keeps its data in another file"
    locations = {
        "beside": "secret.bin",
        "above": "../canary/secret.bin",
        "far-above": "../" * 40 + "etc/passwd",
        "absolute": "/etc/passwd",
        "nowhere": "",
        "device": "/dev/zero",
        "memory": "/proc/self/mem",
        "url": "http://127.0.0.1:9/weights.bin",
        "runtime-address": "*/_ORT_MEM_ADDR_/*",
    }
    for name, location in locations.items():
        tensor = stolen(location, offset="4096", length="48")
        yield model(f"external-{name}", with_parts(initializer=tensor), where)

    def linked(folder: Path, how: str) -> Path:
        secret = folder.parent / "canary" / "secret.bin"
        link = folder / "weights.bin"
        if how == "hard":
            link.hardlink_to(secret)
        else:
            link.symlink_to(secret)
        return save(with_parts(initializer=stolen("weights.bin")), folder / "suspect.onnx")

    yield Hostile("external-symbolic-link", lambda folder: linked(folder, "symbolic"), (where,))
    yield Hostile("external-hard-link", lambda folder: linked(folder, "hard"), (where,))
    lone = stolen("../canary/secret.bin")
    lone.ClearField("data_location")
    yield model("external-by-list-only", with_parts(initializer=lone), where)
    lone = stolen("x")
    lone.ClearField("external_data")
    yield model("external-by-place-only", with_parts(initializer=lone), where)
    yield model(
        "external-in-a-constant",
        with_node("Constant", value=stolen("/etc/passwd")),
        f"node 'odd': attribute 'value': {where}",
    )
    listed = AttributeProto(name="many", type=AttributeProto.TENSORS, tensors=[stolen("/etc/passwd")])
    node = helper.make_node("Constant", [], ["burden"], name="odd")
    node.attribute.append(listed)
    yield model("external-in-a-list", with_extra(node), f"node 'odd': attribute 'many': {where}")
    sparse = onnx.SparseTensorProto(values=stolen("/etc/passwd"), dims=[99])
    yield model("external-in-a-sparse-initializer", with_parts(sparse_initializer=sparse), "sparse")
    yield model(
        "external-in-a-sparse-constant",
        with_node("Constant", sparse_value=sparse),
        "attribute 'sparse_value': its type 11 is not",
    )
    twice = write(5, 2, write(8, 2, b"two") + write(14, 0, 1) + write(14, 0, 0))
    yield model("external-taken-back", with_graph_bytes(twice), "tensor 'two': it keeps")


def own_code() -> Iterator[Hostile]:
    """Operators, graphs and functions that are more than layers."""
    for domain, operator in (
        ("com.example.backdoor", "Run"),
        ("ai.onnx.contrib", "PyOp"),
        ("org.pytorch.aten", "ATen"),
        ("com.microsoft", "EPContext"),
        ("com.microsoft.nchwc", "Conv"),
        ("ai.onnx.ml", "TreeEnsembleClassifier"),
    ):
        made = with_node(operator, domain, ep_cache_context="../canary/secret.bin")
        made.opset_import.append(helper.make_opsetid(domain, 1))
        made.metadata_props.add(key="custom_op_library", value="/tmp/evil.so")
        yield model(
            f"operator-{domain}", made, f"node 'odd': the operator '{operator}' of the foreign domain '{domain}'"
        )
    body = HONEST.graph
    for operator, name in (("Loop", "body"), ("Scan", "body"), ("If", "then_branch"), ("SequenceMap", "body")):
        reason = f"node 'odd': attribute '{name}': it holds a graph of its own"
        yield model(f"control-{operator}", with_node(operator, **{name: body}), reason)
    yield model("control-without-a-graph", with_node("Loop"), "node 'odd': Loop is control flow")
    yield model("graph-hidden-in-relu", with_node("Relu", alpha=body), "attribute 'alpha': it holds a graph")
    yield model("graphs-hidden-in-relu", with_node("Relu", alpha=[body, body]), "attribute 'alpha': it holds a graph")
    graph = b""
    for _ in range(5000):
        graph = write(
            1, 2, write(3, 2, b"deep") + write(4, 2, b"If") + write(5, 2, write(1, 2, b"b") + write(6, 2, graph))
        )
    yield model("graphs-5000-deep", write(7, 2, graph), "node 'deep': attribute 'b': it holds a graph")
    function = helper.make_function("mine", "f", ["x"], ["y"], [helper.make_node("f", ["x"], ["y"], domain="mine")], [])
    made = with_node("f", "mine")
    made.functions.append(function)
    yield model("function-that-calls-itself", made, "foreign domain 'mine'")
    made = with_parts()
    made.functions.append(function)
    yield model("function", made, "functions of its own")
    made = with_parts()
    made.training_info.append(onnx.TrainingInfoProto(algorithm=body))
    yield model("training", made, "training graph")
    made = with_parts()
    made.metadata_props.add(key="ort_config", value='{"session_options": {"intra_op_num_threads": 999}}')
    yield model("settings-for-the-runtime", made, "settings")
    for operator in ("RandomNormal", "SequenceEmpty", "StringNormalizer", "ImageDecoder", "NoSuchOperator"):
        yield model(f"operator-{operator}", with_node(operator), "node 'odd': ")
    wild = helper.make_node("Loop", [], ["burden"], name="\x1b[2J\x1b]0;owned\x07\u202e" * 100)
    yield model("names-with-escapes", with_extra(wild), "is control flow")


def lies() -> Iterator[Hostile]:
    """Tensors, inputs and outputs that are not what they say."""
    for name, dims in {
        "10^12": [10**12],
        "10^12-in-two": [10**6, 10**6],
        "overflow-to-0": [2**32, 2**32],
        "overflow-to-12": [2**62 + 3, 4],
        "10^12-times-0": [10**12, 0],
    }.items():
        reason = "tensor 'big': it declares more than 128,000,000 elements"
        yield model(f"elements-{name}", with_parts(initializer=TensorProto(name="big", data_type=1, dims=dims)), reason)
    for name, (kind, dims, held, reason) in {
        "explodes": (1, [10_000, 10_000], {"raw_data": b"1234"}, "400,000,000 bytes, but holds 4"),
        "too-much": (1, [1], {"raw_data": bytes(4096)}, "4 bytes, but holds 4,096"),
        "nothing": (1, [1000], {}, "but holds 0"),
        "negative": (1, [-4], {"raw_data": b""}, "a negative dimension"),
        "two-kinds": (1, [1], {"raw_data": b"1234", "float_data": [1.0]}, "its data twice"),
        "wrong-kind": (1, [2], {"int64_data": [1, 2]}, "does not go with"),
        "text": (8, [2], {"string_data": [b"a" * 999] * 2}, "it holds text"),
        "complex": (14, [1], {"float_data": [1, 2]}, "data type 14"),
        "no-type": (0, [1], {"raw_data": b"1"}, "data type 0"),
        "unknown-type": (4711, [1], {"raw_data": b"1"}, "data type 4711"),
        "segment": (1, [1], {"segment": TensorProto.Segment(begin=0, end=10**9)}, "is a part of a tensor"),
        "33-dimensions": (1, [1] * 33, {"raw_data": b"1234"}, "more than 32 dimensions"),
    }.items():
        tensor = TensorProto(name="odd", data_type=kind, dims=dims, **held)
        yield model(f"tensor-{name}", with_parts(initializer=tensor), "tensor 'odd': it", reason)
    ends = {
        "text": helper.make_tensor_value_info("odd", TensorProto.STRING, [1]),
        "huge": helper.make_tensor_value_info("odd", 1, [10**12, 3, 64, 64]),
        "33-dimensions": helper.make_tensor_value_info("odd", 1, [1] * 33),
        "list": helper.make_tensor_sequence_value_info("odd", 1, None),
    }
    for name, end in ends.items():
        for where in ("input", "output"):
            yield model(f"{where}-{name}", with_parts(**{where: end}), f"{where} 'odd': it ")
    yield model("two-tensors-of-one-name", with_parts(initializer=HONEST.graph.initializer[0]), "two of that name")


def twisted() -> Iterator[Hostile]:
    """Protobuf that two readers could read differently, or that costs more than it is worth."""
    graph = HONEST.graph.SerializeToString()
    yield model("two-graphs", write(7, 2, graph) * 2, "its graph stands there twice")
    yield model("tag-of-33-bits", encode(7 << 3 | 2 | 1 << 32) + b"\x00" + HONEST.SerializeToString(), "does not exist")
    yield model("varint-of-11-bytes", b"\x08" + b"\x80" * 10 + b"\x01", "longer than ten")
    yield model("length-of-10-bytes", b"\x3a" + b"\xff" * 9 + b"\x01", "longer than five")
    yield model("length-beyond", b"\x3a\xff\xff\xff\xff\x07", "beyond its message")
    yield model("groups", b"\x0b" * 100_000, "wire type 3")
    yield model("graph-as-number", write(7, 0, 7), "not written as ONNX writes it")
    yield model("unknown-field", HONEST.SerializeToString() + write(77, 2, graph), "has no field 77")
    yield model(
        "operator-twice", with_node_bytes(write(4, 2, b"Loop") + write(4, 2, b"Relu")), "node 'odd': its op_type"
    )
    yield model(
        "attribute-merged",
        with_node_bytes(write(4, 2, b"Relu") + write(5, 2, write(1, 2, b"a") + write(5, 2, b"") * 2)),
        "attribute 'a'",
    )
    yield model("name-no-utf-8", with_node_bytes(write(4, 2, b"\xc0\xaf")), "node 'odd': a name is no UTF-8")
    yield model("name-of-a-megabyte", with_node("n" * 1_000_000), "node 'odd': its op_type is longer")
    yield model("opset-twice", HONEST.SerializeToString() + write(8, 2, write(2, 0, 7)), "twice")
    imports = b"".join(write(8, 2, write(1, 2, b"d%d" % i)) for i in range(250_000))
    yield model("imports-250000", imports + HONEST.SerializeToString() + write(8, 2, b""), "'ai.onnx' twice")
    yield model("nodes-20001", write(7, 2, write(1, 2, write(4, 2, b"Relu")) * 20_001), "more than 20,000 nodes")
    yield model(
        "fields-without-end", write(7, 2, write(1, 2, write(1, 2, b"") * 5_000_000)), "more than 600,000 fields"
    )
    yield model(
        "metadata-40-mb",
        HONEST.SerializeToString() + write(14, 2, write(2, 2, bytes(10**6))) * 40,
        "of names and descriptions",
    )
