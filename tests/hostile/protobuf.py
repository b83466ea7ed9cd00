"""Protobuf by hand: what no library would write, and damage that keeps the lengths right."""

from __future__ import annotations

from random import Random

from pi_agent.runtime.schema import SCHEMA
from pi_agent.runtime.wire import BYTES, FIXED32, FIXED64, VARINT, WireError, fields

WORDS = (
    b"",
    b"ai.onnx",
    b"com.microsoft",
    b"ai.onnx.ml",
    b"Loop",
    b"Relu",
    b"QGemm",
    b"location",
    b"\xff\xfe",
    b"\x00",
)
NUMBERS = (0, 1, 2, 3, 4, 5, 7, 8, 10, 127, 128, 2**31 - 1, 2**31, 2**32, 2**32 + 1, 2**63 - 1, 2**63, 2**64 - 1)


def encode(value: int) -> bytes:
    """The shortest varint."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def write(number: int, wire: int, value: int | bytes) -> bytes:
    """One field."""
    head = encode(number << 3 | wire)
    if isinstance(value, int):
        return head + encode(value)
    return head + (encode(len(value)) if wire == BYTES else b"") + value


def mutate(data: bytes, rng: Random, message: str = "ModelProto") -> bytes:
    """Drop, repeat, move, retype, replace or invent one field somewhere in a model; all lengths stay right."""
    try:
        found = [write(n, w, v if w == VARINT else bytes(p)) for n, w, v, p in fields(memoryview(data))]
    except WireError:
        return data[: rng.randrange(len(data))]
    if not found or rng.random() < 0.1:
        return b"".join([*found, _invented(message, rng)])
    at = rng.randrange(len(found))
    number, wire, value, payload = next(fields(memoryview(found[at])))
    known = SCHEMA.get(message, {}).get(number)
    if known is not None and known.message and rng.random() < 0.8:
        found[at] = write(number, BYTES, mutate(bytes(payload), rng, known.message))
        return b"".join(found)
    match rng.randrange(7):
        case 0:
            del found[at]
        case 1:
            found.insert(rng.randrange(len(found) + 1), found[at])
        case 2:
            found.insert(rng.randrange(len(found)), found.pop(at))
        case 3:
            found[at] = _invented(message, rng)
        case 4:
            found[at] = write(rng.randrange(1, 27), wire, value if wire == VARINT else bytes(payload))
        case _:
            found[at] = write(number, wire, _value(wire, value, bytes(payload), rng))
    return b"".join(found)


def _invented(message: str, rng: Random) -> bytes:
    """A field that the message may or may not have."""
    number = rng.choice([*SCHEMA[message], rng.randrange(1, 30)])
    wire = rng.choice([VARINT, BYTES, BYTES, BYTES, FIXED32, FIXED64])
    return write(number, wire, _value(wire, 0, b"", rng))


def _value(wire: int, value: int, payload: bytes, rng: Random) -> int | bytes:
    if wire == VARINT:
        return rng.choice([*NUMBERS, (value + 1) % 2**64, rng.getrandbits(64)])
    if wire != BYTES:
        return rng.randbytes(4 if wire == FIXED32 else 8)
    invented = write(rng.randrange(1, 27), BYTES, rng.choice(WORDS))
    cut = payload[: rng.randrange(len(payload) + 1)]
    return rng.choice([*WORDS, cut, payload + payload, payload + invented, invented, rng.randbytes(rng.randrange(9))])
