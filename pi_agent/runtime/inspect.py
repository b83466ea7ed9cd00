"""Look into an untrusted ONNX file without running it, and refuse what an honest classifier never needs.

Field numbers are those of `onnx.proto`: ModelProto.graph 7, functions 25, training_info 20; GraphProto.node 1,
initializer 5, sparse_initializer 15; NodeProto.name 3, op_type 4, attribute 5, domain 7; AttributeProto.t 5, g 6,
tensors 10, graphs 11, sparse_tensor 22, sparse_tensors 23; TensorProto.dims 1, name 8, external_data 13,
data_location 14.

Protobuf lets a field that should stand once be repeated: numbers and texts take the last value, messages are merged.
A file may use that to show one thing here and another to the runtime, so every occurrence is judged, and repeated
messages are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pi_agent.contract.errors import RefusedModel
from pi_agent.runtime.wire import BYTES, VARINT, WireError, fields, packed

MAX_MODEL_BYTES = 256 * 1024 * 1024
MAX_FIELDS = 1_000_000
MAX_NODES = 20_000
MAX_RANK = 32
MAX_TENSOR_ELEMENTS = 128_000_000
CONTROL_FLOW = frozenset({"Loop", "Scan", "If", "SequenceMap"})
DOMAINS = frozenset({"", "ai.onnx"})


@dataclass
class Contents:
    """What was found: operator names with their counts, and the number of elements in all tensors."""

    operators: dict[str, int] = field(default_factory=dict)
    nodes: int = 0
    elements: int = 0
    fields: int = 0


def inspect_model(data: bytes, where: str) -> Contents:
    """Walk the whole file, in bounded time. Raises `RefusedModel` (65) whose reason names the node or tensor.

    Refused: external data, foreign operator domains, control flow and graphs in nodes, model functions, training
    graphs, sparse tensors, more than 20,000 nodes, 128 million tensor elements or a million fields, ONNX Runtime's own
    format, bytes that are no protobuf.
    """
    contents = Contents()
    try:
        if data[4:8] == b"ORTM":
            # ONNX Runtime decides by these four bytes; a file can be that and a harmless protobuf at the same time.
            raise WireError("it is in ONNX Runtime's own format, which cannot be inspected")
        graphs = 0
        for number, wire, _, payload in _walk(memoryview(data), contents):
            if number == 7 and wire == BYTES:
                graphs += 1
                if graphs > 1:
                    raise WireError("it holds several graphs")
                _graph(payload, contents)
            elif number == 25:
                raise WireError("it defines functions of its own")
            elif number == 20:
                raise WireError("it holds a training graph")
        if graphs == 0:
            raise WireError("not an ONNX model: no graph in it")
        if contents.nodes == 0:
            raise WireError("its graph has no nodes")
    except WireError as exc:
        raise RefusedModel(path=where, reason=str(exc)) from exc
    return contents


def _walk(data: memoryview, contents: Contents) -> Iterator[tuple[int, int, int, memoryview]]:
    for found in fields(data):
        contents.fields += 1
        if contents.fields > MAX_FIELDS:
            raise WireError(f"more than {MAX_FIELDS:,} fields")
        yield found


def _graph(data: memoryview, contents: Contents) -> None:
    for number, wire, _, payload in _walk(data, contents):
        if wire != BYTES:
            continue
        if number == 1:
            _node(payload, contents)
        elif number == 5:
            _tensor(payload, contents)
        elif number == 15:
            raise WireError("it holds sparse tensors")


def _node(data: memoryview, contents: Contents) -> None:
    contents.nodes += 1
    if contents.nodes > MAX_NODES:
        raise WireError(f"more than {MAX_NODES:,} nodes")
    name = operator = ""
    operators, domains, attributes = [""], [""], []
    for number, wire, _, payload in _walk(data, contents):
        if wire != BYTES:
            continue
        if number == 3:
            name = _text(payload)
        elif number == 4:
            operators.append(operator := _text(payload))
        elif number == 7:
            domains.append(_text(payload))
        elif number == 5:
            attributes.append(payload)
    for domain in domains:
        if domain not in DOMAINS:
            raise WireError(f"node {name!r} uses operator {operator!r} of the foreign domain {domain!r}")
    for flow in CONTROL_FLOW.intersection(operators):
        raise WireError(f"node {name!r} is a {flow}: control flow is not accepted")
    contents.operators[operator] = contents.operators.get(operator, 0) + 1
    for attribute in attributes:
        _attribute(attribute, contents, name)


def _attribute(data: memoryview, contents: Contents, node: str) -> None:
    tensors = 0
    for number, wire, _, payload in _walk(data, contents):
        if wire != BYTES:
            continue
        if number in (5, 10):
            tensors += number == 5
            if tensors > 1:
                raise WireError(f"an attribute of node {node!r} gives its tensor twice")
            _tensor(payload, contents)
        elif number in (6, 11):
            raise WireError(f"node {node!r} holds a graph of its own: control flow is not accepted")
        elif number in (22, 23):
            raise WireError("it holds sparse tensors")


def _tensor(data: memoryview, contents: Contents) -> None:
    name, sides, external = "", [], False
    for number, wire, value, payload in _walk(data, contents):
        if number == 1 and wire in (VARINT, BYTES):
            for side in packed(wire, value, payload):
                sides.append(side)
                if len(sides) > MAX_RANK:
                    raise WireError(f"a tensor has more than {MAX_RANK} dimensions")
        elif number == 8 and wire == BYTES:
            name = _text(payload)
        elif number == 13 or (number == 14 and value != 0):
            external = True
    if external:
        raise WireError(f"tensor {name!r} keeps its data in another file")
    elements = 1
    for side in sides:
        if side >> 63:
            raise WireError(f"tensor {name!r} has a negative dimension")
        elements *= side
    contents.elements += elements
    if max(elements, contents.elements, *sides) > MAX_TENSOR_ELEMENTS:
        raise WireError(f"tensor {name!r}: more than {MAX_TENSOR_ELEMENTS:,} elements in all")


def _text(payload: memoryview) -> str:
    return bytes(payload[:200]).decode("utf-8", "replace")
