"""Walk protobuf bytes without a schema library: fields, varints, lengths, all bounds checked.

Only what ONNX files need. The caller decides which fields are messages; nothing is copied but slices. Where
libprotobuf and this walker could read the same bytes differently (a tag of more than 32 bits, which it silently cuts),
the bytes are refused: what was inspected must be what will be run.
"""

from __future__ import annotations

from collections.abc import Iterator


class WireError(ValueError):
    """These bytes are no protobuf message."""


VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_NUMBER = (1 << 29) - 1
_HIGH_BIT = bytes(range(0x80, 0x100))


def fields(data: memoryview) -> Iterator[tuple[int, int, int, memoryview]]:
    """Yield (field number, wire type, varint value, payload) of one message; the payload of a number is empty.

    Raises `WireError` for truncated data, over-long varints, groups and field numbers outside 1..2**29-1.
    """
    position, end = 0, len(data)
    empty = data[:0]
    while position < end:
        key = data[position]
        if key < 0x80:  # by hand, here and below: nearly all tags and lengths are one byte
            position += 1
        else:
            key, position = varint(data, position, 5)
        number, wire = key >> 3, key & 7
        if not 1 <= number <= MAX_NUMBER:
            raise WireError(f"field number {number} does not exist")
        if wire == VARINT:
            value, position = varint(data, position)
            yield number, wire, value, empty
            continue
        if wire == BYTES:
            length, position = varint(data, position, 5)
        elif wire in (FIXED32, FIXED64):
            length = 4 if wire == FIXED32 else 8
        else:
            raise WireError(f"wire type {wire} is not used by ONNX")
        if length > end - position:
            raise WireError("a field reaches beyond its message" if wire == BYTES else "a number is cut short")
        yield number, wire, 0, data[position : position + length]
        position += length


def varint(data: memoryview, position: int, longest: int = 10) -> tuple[int, int]:
    """Decode one base-128 number of at most `longest` bytes, modulo 2**64; returns value and next position."""
    value = 0
    for count in range(longest):
        if position + count >= len(data):
            raise WireError("a number is cut short")
        byte = data[position + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position + count + 1
    raise WireError(
        "a number is longer than ten bytes" if longest == 10 else "a tag or length is longer than five bytes"
    )


def packed(wire: int, value: int, payload: memoryview) -> Iterator[int]:
    """A repeated integer field in either spelling: one value, or many packed. Raises `WireError`."""
    if wire == VARINT:
        yield value
    position = 0
    while position < len(payload):
        value, position = varint(payload, position)
        yield value


def count_packed(payload: memoryview) -> int:
    """How many integers stand in a packed field: as many as bytes that end one. Millions take milliseconds.

    Raises `WireError` for half a number. Whether each is at most ten bytes long is left to the runtime's parser.
    """
    if len(payload) and payload[-1] >= 0x80:
        raise WireError("a number is cut short")
    return len(bytes(payload).translate(None, _HIGH_BIT))
