"""Look into an untrusted ONNX file without running it, and refuse what an honest classifier never needs.

Field numbers are those of `onnx.proto`: ModelProto.graph 7, functions 25, training_info 20; GraphProto.node 1,
initializer 5, sparse_initializer 15, input 11, output 12; NodeProto.output 2, name 3, op_type 4, attribute 5, domain 7;
AttributeProto.t 5, g 6, tensors 10, graphs 11, sparse_tensor 22, sparse_tensors 23; TensorProto.dims 1, name 8,
raw_data 9, external_data 13, data_location 14.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pi_agent.contract.errors import RefusedModel
from pi_agent.runtime.wire import BYTES, VARINT, WireError, fields, packed

MAX_MODEL_BYTES = 256 * 1024 * 1024
MAX_DEPTH = 8
MAX_NODES = 20_000
MAX_TENSOR_ELEMENTS = 128_000_000
CONTROL_FLOW = frozenset({"Loop", "Scan", "If", "SequenceMap"})
DOMAINS = frozenset({"", "ai.onnx"})


@dataclass
class Contents:
    """What was found: operator names with their counts, and the number of elements in all tensors."""

    operators: dict[str, int] = field(default_factory=dict)
    nodes: int = 0
    elements: int = 0


def inspect_model(data: bytes, where: str) -> Contents:
    """Walk the whole file. Raises `RefusedModel` (65) whose reason names the node or tensor.

    Refused: external data, foreign operator domains, control flow, model functions, training graphs, sparse tensors,
    more than 20,000 nodes or 128 million tensor elements, nesting deeper than 8, bytes that are no protobuf.
    """
    contents = Contents()
    try:
        graphs = 0
        for number, wire, _, payload in fields(memoryview(data)):
            if number == 7 and wire == BYTES:
                _graph(payload, contents, 1)
                graphs += 1
            elif number == 25:
                raise WireError("it defines functions of its own")
            elif number == 20:
                raise WireError("it holds a training graph")
        if graphs != 1:
            raise WireError("not an ONNX model: no graph in it" if graphs == 0 else "it holds several graphs")
        if contents.nodes == 0:
            raise WireError("its graph has no nodes")
    except WireError as exc:
        raise RefusedModel(path=where, reason=str(exc)) from exc
    return contents


def _graph(data: memoryview, contents: Contents, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise WireError(f"graphs are nested more than {MAX_DEPTH} deep")
    for number, wire, _, payload in fields(data):
        if wire != BYTES:
            continue
        if number == 1:
            _node(payload, contents, depth)
        elif number == 5:
            _tensor(payload, contents)
        elif number == 15:
            raise WireError("it holds sparse tensors")


def _node(data: memoryview, contents: Contents, depth: int) -> None:
    contents.nodes += 1
    if contents.nodes > MAX_NODES:
        raise WireError(f"more than {MAX_NODES} nodes")
    name = operator = domain = ""
    attributes = []
    for number, wire, _, payload in fields(data):
        if wire != BYTES:
            continue
        if number == 3:
            name = _text(payload)
        elif number == 4:
            operator = _text(payload)
        elif number == 7:
            domain = _text(payload)
        elif number == 5:
            attributes.append(payload)
    if domain not in DOMAINS:
        raise WireError(f"node {name!r} uses operator {operator!r} of the foreign domain {domain!r}")
    if operator in CONTROL_FLOW:
        raise WireError(f"node {name!r} is a {operator}: control flow is not accepted")
    contents.operators[operator] = contents.operators.get(operator, 0) + 1
    for attribute in attributes:
        _attribute(attribute, contents, depth)


def _attribute(data: memoryview, contents: Contents, depth: int) -> None:
    for number, wire, _, payload in fields(data):
        if wire != BYTES:
            continue
        if number in (5, 10):
            _tensor(payload, contents)
        elif number in (6, 11):
            _graph(payload, contents, depth + 1)
        elif number in (22, 23):
            raise WireError("it holds sparse tensors")


def _tensor(data: memoryview, contents: Contents) -> None:
    name, elements, external = "", 1, False
    for number, wire, value, payload in fields(data):
        if number == 1 and wire in (VARINT, BYTES):
            for side in packed(wire, value, payload):
                elements *= side
                if side > MAX_TENSOR_ELEMENTS or elements > MAX_TENSOR_ELEMENTS:
                    elements = MAX_TENSOR_ELEMENTS + 1
        elif number == 8 and wire == BYTES:
            name = _text(payload)
        elif number == 13 or (number == 14 and value != 0):
            external = True
    if external:
        raise WireError(f"tensor {name!r} keeps its data in another file")
    contents.elements += elements
    if contents.elements > MAX_TENSOR_ELEMENTS:
        raise WireError(f"tensor {name!r}: more than {MAX_TENSOR_ELEMENTS:,} elements in all")


def _text(payload: memoryview) -> str:
    return bytes(payload[:200]).decode("utf-8", "replace")
