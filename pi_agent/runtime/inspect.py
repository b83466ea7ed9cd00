"""Look into an untrusted ONNX file without running it, and refuse what an honest classifier never needs.

Three layers: `wire` reads protobuf, `schema` says what an ONNX file consists of, `policy` what is allowed in it. This
module walks from the model to its nodes and tensors and says where the trouble is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

from pi_agent.contract.errors import RefusedModel
from pi_agent.runtime.policy import (
    MAX_NODES,
    MAX_RANK,
    MAX_TENSOR_ELEMENTS,
    Tensor,
    check_attribute_type,
    check_data_type,
    check_domains,
    check_metadata,
    check_operator,
    check_side,
    check_tensor,
    shown,
)
from pi_agent.runtime.schema import NotAllowed, Reader, name_of
from pi_agent.runtime.wire import BYTES, FIXED32, FIXED64, VARINT, WireError, count_packed, fields, packed

MAX_MODEL_BYTES = 256 * 1024 * 1024
NAME_FIELD = {"node": 3, "tensor": 8, "attribute": 1, "input": 1, "output": 1, "value": 1}


@dataclass
class Contents:
    """What was found: operator names with their counts, and the number of elements in all tensors."""

    operators: dict[str, int] = field(default_factory=dict)
    nodes: int = 0
    elements: int = 0
    fields: int = 0


def inspect_model(data: bytes, where: str) -> Contents:
    """Walk the whole file, in bounded time. Raises `RefusedModel` (65) whose reason names the node, tensor or input.

    Refused: bytes that are no ONNX file or that two readers could read differently, ONNX Runtime's own format, data in
    other files, operators that are in no list of `policy` (control flow, foreign domains), model functions, training
    graphs, sparse tensors, tensors that hold more or less than they declare, and too much of anything.
    """
    walk = _Walk()
    try:
        if data[4:8] == b"ORTM":
            # ONNX Runtime decides by these four bytes; a file can be that and a harmless protobuf at the same time.
            raise NotAllowed("it is in ONNX Runtime's own format, which cannot be inspected")
        walk.model(memoryview(data))
    except (WireError, NotAllowed) as exc:
        hint = getattr(exc, "hint", "") or None
        raise RefusedModel(path=where, reason=str(exc), hint=hint) from exc
    walk.contents.fields = walk.reader.fields
    return walk.contents


class _Walk:
    """One way through one file. Every method raises `WireError` or `NotAllowed`."""

    def __init__(self) -> None:
        self.contents, self.reader = Contents(), Reader()
        self._initializers: set[str] = set()

    def model(self, data: memoryview) -> None:
        domains: list[str] = []
        graph = False
        for name, _, _, payload in self.reader.each("ModelProto", data):
            if name == "graph":
                graph = True
                self._graph(payload)
            elif name == "opset_import":
                domains.append(self._text("OperatorSetIdProto", "domain", payload))
            elif name == "metadata_props":
                check_metadata(self._text("StringStringEntryProto", "key", payload))
        if not graph:
            raise NotAllowed("not an ONNX model: no graph in it")
        if self.contents.nodes == 0:
            raise NotAllowed("its graph has no nodes")
        check_domains(domains)

    def _graph(self, data: memoryview) -> None:
        counts = {"initializer": 0, "input": 0, "output": 0, "value_info": 0}
        for name, _, _, payload in self.reader.each("GraphProto", data):
            if name in counts:
                counts[name] += 1
            if name == "node":
                self.contents.nodes += 1
                if self.contents.nodes > MAX_NODES:
                    raise NotAllowed(f"more than {MAX_NODES:,} nodes")
                _within("node", self.contents.nodes, payload, self._node)
            elif name == "initializer":
                _within("tensor", counts[name], payload, self._initializer)
            elif name in ("input", "output"):
                _within(name, counts[name], payload, self._value)
            elif name == "value_info":
                _within("value", counts[name], payload, self._value)
            elif name == "quantization_annotation":
                self.reader.check("TensorAnnotation", payload)
            elif name == "metadata_props":
                self.reader.check("StringStringEntryProto", payload)

    def _node(self, data: memoryview) -> None:
        operator = domain = ""
        attributes = 0
        for name, _, _, payload in self.reader.each("NodeProto", data):
            if name == "op_type":
                operator = name_of(payload)
            elif name == "domain":
                domain = name_of(payload)
            elif name == "attribute":
                attributes += 1
                _within("attribute", attributes, payload, self._attribute)
            elif name == "metadata_props":
                self.reader.check("StringStringEntryProto", payload)
        check_operator(domain, operator)
        self.contents.operators[operator] = self.contents.operators.get(operator, 0) + 1

    def _attribute(self, data: memoryview) -> None:
        tensors = 0
        for name, _, value, payload in self.reader.each("AttributeProto", data):
            if name == "type":
                check_attribute_type(value)
            elif name in ("t", "tensors"):
                tensors += 1
                _within("tensor", tensors, payload, self._tensor)

    def _initializer(self, data: memoryview) -> None:
        name = self._tensor(data)
        if name in self._initializers:
            raise NotAllowed("there are two of that name")
        self._initializers.add(name)

    def _tensor(self, data: memoryview) -> str:
        """Its name."""
        tensor, called = Tensor(), ""
        for name, wire, value, payload in self.reader.each("TensorProto", data):
            if name == "dims":
                for side in packed(wire, value, payload):
                    tensor.sides.append(side)
                    if len(tensor.sides) > MAX_RANK:
                        raise NotAllowed(f"it has more than {MAX_RANK} dimensions")
            elif name == "name":
                called = name_of(payload)
            elif name == "data_type":
                tensor.data_type = value
            elif name == "data_location" and value != 0:
                raise NotAllowed("it keeps its data in another file")
            elif name.endswith("_data"):
                tensor.stored[name] = tensor.stored.get(name, 0) + _held(name, wire, payload)
            elif name == "metadata_props":
                self.reader.check("StringStringEntryProto", payload)
        self.contents.elements += check_tensor(tensor)
        if self.contents.elements > MAX_TENSOR_ELEMENTS:
            raise NotAllowed(f"more than {MAX_TENSOR_ELEMENTS:,} elements in all")
        return called

    def _value(self, data: memoryview) -> None:
        """An input, an output or a value in between: a tensor of numbers with sides that can be."""
        for name, _, _, payload in self.reader.each("ValueInfoProto", data):
            if name == "metadata_props":
                self.reader.check("StringStringEntryProto", payload)
            elif name == "type":
                for kind, _, _, tensor in self.reader.each("TypeProto", payload):
                    if kind == "tensor_type":
                        self._tensor_type(tensor)

    def _tensor_type(self, data: memoryview) -> None:
        for name, _, value, payload in self.reader.each("TypeProto.Tensor", data):
            if name == "elem_type":
                check_data_type(value)
            elif name == "shape":
                for rank, (_, _, _, dimension) in enumerate(self.reader.each("TensorShapeProto", payload), 1):
                    if rank > MAX_RANK:
                        raise NotAllowed(f"it has more than {MAX_RANK} dimensions")
                    for part, _, side, _ in self.reader.each("TensorShapeProto.Dimension", dimension):
                        if part == "dim_value":
                            check_side(side)

    def _text(self, message: str, wanted: str, data: memoryview) -> str:
        """One text of a small message, "" where it has none."""
        found = ""
        for name, _, _, payload in self.reader.each(message, data):
            if name == wanted:
                found = name_of(payload)
        return found


def _held(name: str, wire: int, payload: memoryview) -> int:
    """How much one field of a tensor's data holds: bytes of raw data, values of a list."""
    if name == "raw_data":
        return len(payload)
    if wire in (VARINT, FIXED32, FIXED64):
        return 1
    width = {"float_data": 4, "double_data": 8}.get(name)
    if width is None:
        return count_packed(payload)
    if len(payload) % width:
        raise WireError("a number is cut short")
    return len(payload) // width


def _within(what: str, number: int, data: memoryview, look: Callable[[memoryview], object]) -> None:
    """Look at a part; what is wrong with it is told with its name, or its number where it has none."""
    try:
        look(data)
    except (WireError, NotAllowed) as exc:
        name = _name(data, NAME_FIELD[what])
        raise NotAllowed(f"{what} {shown(name) if name else number}: {exc}", getattr(exc, "hint", "")) from exc


def _name(data: memoryview, number: int) -> str:
    """What a part calls itself, for a message; it may be damaged behind its name."""
    name = ""
    try:
        for found, wire, _, payload in islice(fields(data), 10_000):
            if found == number and wire == BYTES:
                name = bytes(payload[:400]).decode("utf-8", "replace")
    except WireError:
        pass
    return name
