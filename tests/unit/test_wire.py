"""The protobuf walker: reads what protobuf writes, and nothing but `WireError` comes out of hostile bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_agent.runtime.wire import (
    BYTES,
    FIXED32,
    FIXED64,
    MAX_NUMBER,
    VARINT,
    WireError,
    count_packed,
    fields,
    packed,
    varint,
)
from tests.hostile.protobuf import encode, write

QUICK = settings(deadline=None, max_examples=300)


numbers = st.integers(1, MAX_NUMBER)
messages = st.lists(
    st.one_of(
        st.tuples(numbers, st.just(VARINT), st.integers(0, 2**64 - 1)),
        st.tuples(numbers, st.just(BYTES), st.binary(max_size=300)),
        st.tuples(numbers, st.just(FIXED32), st.binary(min_size=4, max_size=4)),
        st.tuples(numbers, st.just(FIXED64), st.binary(min_size=8, max_size=8)),
    ),
    max_size=8,
)


def read(data: bytes) -> list[tuple[int, int, int | bytes]]:
    return [
        (n, wire, value if wire == VARINT else bytes(payload)) for n, wire, value, payload in fields(memoryview(data))
    ]


@QUICK
@given(messages)
def test_what_was_written_is_read(message: list[tuple[int, int, int | bytes]]) -> None:
    assert read(b"".join(write(*field) for field in message)) == message


@QUICK
@given(st.binary(max_size=400))
def test_random_bytes_are_read_whole_or_refused(data: bytes) -> None:
    try:
        found = read(data)
    except WireError:
        return
    assert sum(len(v) for _, _, v in found if isinstance(v, bytes)) <= len(data)


@QUICK
@given(messages.filter(bool), st.data())
def test_a_message_cut_inside_a_field_is_refused(
    message: list[tuple[int, int, int | bytes]], data: st.DataObject
) -> None:
    last = write(*message[-1])
    whole = b"".join(write(*field) for field in message)
    cut = data.draw(st.integers(1, len(last) - 1))
    with pytest.raises(WireError):
        read(whole[:-cut])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x00\x00", "field number 0"),
        (b"\x0b", "wire type 3"),
        (b"\x0c", "wire type 4"),
        (b"\x0f", "wire type 7"),
        (b"\x08", "cut short"),
        (b"\x08\xff", "cut short"),
        (b"\x08" + b"\xff" * 10 + b"\x01", "longer than ten"),
        (b"\x0d\x00\x00\x00", "cut short"),
        (b"\x09" + b"\x00" * 7, "cut short"),
        (b"\x0a\x05abcd", "beyond its message"),
        (b"\x0a" + encode(2**31), "beyond its message"),
        (b"\x0a" + encode(2**63), "longer than five"),
        (b"\x8a\x80\x80\x80\x80\x00", "longer than five"),
    ],
)
def test_malformed_bytes_are_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        read(data)


def test_a_tag_beyond_32_bits_is_refused_because_libprotobuf_would_cut_it_to_another_field() -> None:
    graph = 7 << 3 | BYTES
    assert read(encode(graph) + b"\x00") == [(7, BYTES, b"")]
    with pytest.raises(WireError, match="does not exist"):
        read(encode(graph | 1 << 32) + b"\x00")


@QUICK
@given(st.integers(0, 2**64 - 1), st.binary(max_size=3))
def test_varints(value: int, before: bytes) -> None:
    data = before + encode(value)
    assert varint(memoryview(data), len(before)) == (value, len(data))


@QUICK
@given(st.lists(st.integers(0, 2**64 - 1), max_size=20))
def test_packed_and_single_numbers(values: list[int]) -> None:
    assert list(packed(BYTES, 0, memoryview(b"".join(map(encode, values))))) == values
    assert [v for value in values for v in packed(VARINT, value, memoryview(b""))] == values


@QUICK
@given(st.lists(st.integers(0, 2**64 - 1), max_size=20))
def test_packed_numbers_are_counted_without_reading_them(values: list[int]) -> None:
    data = b"".join(map(encode, values))
    assert count_packed(memoryview(data)) == len(values)
    with pytest.raises(WireError, match="cut short"):
        count_packed(memoryview(data + b"\x80"))
