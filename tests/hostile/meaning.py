"""What must hold for any bytes at all: hypothesis and atheris both end here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import prod

import onnx
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from pi_agent.contract.errors import RefusedModel
from pi_agent.runtime import policy
from pi_agent.runtime.inspect import Contents, inspect_model
from pi_agent.runtime.schema import MAX_FIELDS


def judged(data: bytes) -> Contents | None:
    """What the inspection found, None where it refused. Whatever else comes out of it is a finding."""
    try:
        found = inspect_model(data, "fuzz")
    except RefusedModel as exc:
        assert str(exc).isprintable(), "the reason ends on a terminal"
        assert len(str(exc)) < 1000
        return None
    assert found.fields <= MAX_FIELDS
    return found


def check(data: bytes) -> bool:
    """Whether the file is accepted and readable. Fails if what was inspected is not what protobuf reads and would run.

    Google's parser decides what the bytes mean. Where it refuses them, so does ONNX Runtime.
    """
    found = judged(data)
    if found is None:
        return False
    try:
        model = onnx.load_from_string(data)
    except DecodeError:
        return False
    nodes = list(model.graph.node)
    assert found.nodes == len(nodes) > 0
    assert found.operators == dict(Counter(node.op_type for node in nodes))
    assert not any(len(UnknownFieldSet(message)) for message in messages(model)), "skipped here, or there"
    assert not model.functions
    assert not model.training_info
    assert not model.graph.sparse_initializer
    domains = ["" if it.domain == "ai.onnx" else it.domain for it in model.opset_import]
    assert len(domains) == len(set(domains))
    for node in nodes:
        check_node(node)
    tensors = list(model.graph.initializer) + [
        t for n in nodes for a in n.attribute for t in (*stands(a, "t"), *a.tensors)
    ]
    for tensor in tensors:
        check_tensor(tensor)
    assert found.elements == sum(prod(tensor.dims) for tensor in tensors) <= policy.MAX_TENSOR_ELEMENTS
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        assert not value.HasField("type") or value.type.WhichOneof("value") in (None, "tensor_type")
        assert all(-1 <= d.dim_value <= policy.MAX_SIDE for d in value.type.tensor_type.shape.dim)
    return True


def check_node(node: onnx.NodeProto) -> None:
    """No foreign operator, no graph, no reference to a function."""
    if node.domain in ("", "ai.onnx"):
        assert node.op_type in policy.OPERATORS
    else:
        assert node.domain == "com.microsoft"
        assert node.op_type in policy.QUANTISED
    for attribute in node.attribute:
        for name in ("g", "sparse_tensor", "tp", "ref_attr_name"):
            assert not stands(attribute, name)
        assert not attribute.graphs
        assert not attribute.sparse_tensors
        assert not attribute.type_protos


def check_tensor(tensor: onnx.TensorProto) -> None:
    """Its data is in it, all of it and in one place."""
    assert not tensor.external_data
    assert tensor.data_location == onnx.TensorProto.DEFAULT
    assert not tensor.HasField("segment")
    assert not tensor.string_data
    assert all(side >= 0 for side in tensor.dims)
    lists = [tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data]
    assert sum(bool(held) for held in lists) + bool(tensor.raw_data) <= 1
    held = len(tensor.raw_data) * 8 if tensor.raw_data else 8 * sum(map(len, lists))
    if prod(tensor.dims) == 0:
        assert held == 0
    elif tensor.raw_data:
        assert held == -(-prod(tensor.dims) * policy.BITS[tensor.data_type] // 8) * 8


def stands(message: Message, name: str) -> list:
    """The value of a field as a list: none, or one."""
    return [getattr(message, name)] if message.HasField(name) else []


def messages(message: Message) -> Iterator[Message]:
    """A message and all that it holds."""
    yield message
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for inner in value if field.is_repeated else [value]:
                yield from messages(inner)
