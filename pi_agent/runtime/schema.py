"""The messages of an ONNX file as a table, and a reader that accepts nothing else.

The numbers are those of `onnx.proto`. A field may stand where the table has it, written as the table says, and once
unless it is a list. Protobuf is more generous: of a repeated number or text the last one counts, repeated messages are
merged, unknown fields are skipped and a wrong spelling makes a field unknown. A file could use that to show one thing
here and another to the runtime, so all of it is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pi_agent.runtime.wire import BYTES, FIXED32, FIXED64, VARINT, WireError, fields

MAX_FIELDS = 600_000
MAX_NAME_BYTES = 4096
MAX_PROSE_BYTES = 1024 * 1024
MAX_TEXT_BYTES = 32 * 1024 * 1024
"""Of all names and descriptions together. Weights are not text."""


class NotAllowed(ValueError):
    """Something in the file that is not accepted. `hint` says what to do, "" where the usual hint will do."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Field:
    """What may stand under one number; `text` is the longest that it may be, `banned` why it may not stand at all."""

    name: str
    wires: tuple[int, ...]
    many: bool = False
    text: int = 0
    message: str = ""
    banned: str = ""


def _number(name: str) -> Field:
    return Field(name, (VARINT,))


def _numbers(name: str) -> Field:
    return Field(name, (VARINT, BYTES), many=True)


def _name(name: str, many: bool = False) -> Field:
    return Field(name, (BYTES,), many, text=MAX_NAME_BYTES)


def _prose(name: str) -> Field:
    return Field(name, (BYTES,), text=MAX_PROSE_BYTES)


def _one(name: str, message: str) -> Field:
    return Field(name, (BYTES,), message=message)


def _many(name: str, message: str) -> Field:
    return Field(name, (BYTES,), many=True, message=message)


def _never(name: str, why: str) -> Field:
    return Field(name, (BYTES,), many=True, banned=why)


_GRAPH = "it holds a graph of its own: control flow is not accepted"
_SPARSE = "sparse tensors are not accepted"
_DEVICES = "settings for several devices are not accepted"
_NO_TENSOR = "it is no tensor"

SCHEMA: dict[str, dict[int, Field]] = {
    "ModelProto": {
        1: _number("ir_version"),
        2: _name("producer_name"),
        3: _name("producer_version"),
        4: _name("domain"),
        5: _number("model_version"),
        6: _prose("doc_string"),
        7: _one("graph", "GraphProto"),
        8: _many("opset_import", "OperatorSetIdProto"),
        14: _many("metadata_props", "StringStringEntryProto"),
        20: _never("training_info", "it holds a training graph"),
        25: _never("functions", "it defines functions of its own"),
        26: _never("configuration", _DEVICES),
    },
    "OperatorSetIdProto": {1: _name("domain"), 2: _number("version")},
    "StringStringEntryProto": {1: _name("key"), 2: _prose("value")},
    "GraphProto": {
        1: _many("node", "NodeProto"),
        2: _name("name"),
        5: _many("initializer", "TensorProto"),
        10: _prose("doc_string"),
        11: _many("input", "ValueInfoProto"),
        12: _many("output", "ValueInfoProto"),
        13: _many("value_info", "ValueInfoProto"),
        14: _many("quantization_annotation", "TensorAnnotation"),
        15: _never("sparse_initializer", _SPARSE),
        16: _many("metadata_props", "StringStringEntryProto"),
    },
    "TensorAnnotation": {
        1: _name("tensor_name"),
        2: _many("quant_parameter_tensor_names", "StringStringEntryProto"),
    },
    "NodeProto": {
        1: _name("input", many=True),
        2: _name("output", many=True),
        3: _name("name"),
        4: _name("op_type"),
        5: _many("attribute", "AttributeProto"),
        6: _prose("doc_string"),
        7: _name("domain"),
        8: _name("overload"),
        9: _many("metadata_props", "StringStringEntryProto"),
        10: _never("device_configurations", _DEVICES),
    },
    "AttributeProto": {
        1: _name("name"),
        2: Field("f", (FIXED32,)),
        3: _number("i"),
        4: Field("s", (BYTES,)),
        5: _one("t", "TensorProto"),
        6: _never("g", _GRAPH),
        7: Field("floats", (FIXED32, BYTES), many=True),
        8: _numbers("ints"),
        9: Field("strings", (BYTES,), many=True),
        10: _many("tensors", "TensorProto"),
        11: _never("graphs", _GRAPH),
        13: _prose("doc_string"),
        14: _never("tp", _NO_TENSOR),
        15: _never("type_protos", _NO_TENSOR),
        20: _number("type"),
        21: _never("ref_attr_name", "it refers to a function of the model's own"),
        22: _never("sparse_tensor", _SPARSE),
        23: _never("sparse_tensors", _SPARSE),
    },
    "TensorProto": {
        1: _numbers("dims"),
        2: _number("data_type"),
        3: _never("segment", "it is a part of a tensor"),
        4: Field("float_data", (FIXED32, BYTES), many=True),
        5: _numbers("int32_data"),
        6: _never("string_data", "it holds text"),
        7: _numbers("int64_data"),
        8: _name("name"),
        9: Field("raw_data", (BYTES,)),
        10: Field("double_data", (FIXED64, BYTES), many=True),
        11: _numbers("uint64_data"),
        12: _prose("doc_string"),
        13: _never("external_data", "it keeps its data in another file"),
        14: _number("data_location"),
        16: _many("metadata_props", "StringStringEntryProto"),
    },
    "ValueInfoProto": {
        1: _name("name"),
        2: _one("type", "TypeProto"),
        3: _prose("doc_string"),
        4: _many("metadata_props", "StringStringEntryProto"),
    },
    "TypeProto": {
        1: _one("tensor_type", "TypeProto.Tensor"),
        4: _never("sequence_type", _NO_TENSOR),
        5: _never("map_type", _NO_TENSOR),
        6: _name("denotation"),
        7: _never("opaque_type", _NO_TENSOR),
        8: _never("sparse_tensor_type", _SPARSE),
        9: _never("optional_type", _NO_TENSOR),
    },
    "TypeProto.Tensor": {1: _number("elem_type"), 2: _one("shape", "TensorShapeProto")},
    "TensorShapeProto": {1: _many("dim", "TensorShapeProto.Dimension")},
    "TensorShapeProto.Dimension": {1: _number("dim_value"), 2: _name("dim_param"), 3: _name("denotation")},
}


class Reader:
    """Reads messages and keeps account of what the whole file has used: fields, and bytes of text."""

    def __init__(self) -> None:
        self.fields = self.text = 0

    def each(self, message: str, data: memoryview) -> Iterator[tuple[str, int, int, memoryview]]:
        """Yield (field name, wire type, number, payload) in the order of the file.

        Raises `NotAllowed` for what the table has not or bans, for a second one where one is allowed, for texts that
        are too long or names that are no UTF-8, and above 600,000 fields; `WireError` where it is no protobuf.
        """
        table, seen = SCHEMA[message], set()
        for number, wire, value, payload in fields(data):
            self.fields += 1
            if self.fields > MAX_FIELDS:
                raise NotAllowed(f"more than {MAX_FIELDS:,} fields")
            field = table.get(number)
            if field is None:
                raise NotAllowed(f"a {message} has no field {number}")
            if field.banned:
                raise NotAllowed(field.banned)
            if wire not in field.wires:
                raise NotAllowed(f"its {field.name} is not written as ONNX writes it")
            if not field.many:
                if number in seen:
                    raise NotAllowed(f"its {field.name} stands there twice")
                seen.add(number)
            if field.text:
                self._text(field, payload)
            yield field.name, wire, value, payload

    def check(self, message: str, data: memoryview) -> None:
        """Read a message of which only the form matters, and what is in it. Raises as `each`."""
        table = {field.name: field.message for field in SCHEMA[message].values() if field.message}
        for name, _, _, payload in self.each(message, data):
            if name in table:
                self.check(table[name], payload)

    def _text(self, field: Field, payload: memoryview) -> None:
        self.text += len(payload)
        if len(payload) > field.text:
            raise NotAllowed(f"its {field.name} is longer than {field.text:,} bytes")
        if self.text > MAX_TEXT_BYTES:
            raise NotAllowed(f"more than {MAX_TEXT_BYTES:,} bytes of names and descriptions")
        if field.text == MAX_NAME_BYTES:
            name_of(payload)


def name_of(payload: memoryview) -> str:
    """Decode a name. Raises `WireError` where it is no UTF-8."""
    try:
        return str(payload, "utf-8")
    except UnicodeDecodeError as exc:
        raise WireError("a name is no UTF-8") from exc
