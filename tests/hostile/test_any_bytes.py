"""Any bytes at all: `RefusedModel` or a model that means to ONNX what was inspected. Longer: tests/fuzz."""

from __future__ import annotations

from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pi_agent.runtime.schema import SCHEMA
from tests.hostile.meaning import check, judged
from tests.hostile.protobuf import mutate, write
from tests.support_models import colour_net, with_extra

HONEST = [
    colour_net().SerializeToString(),
    with_extra(
        helper.make_node("Constant", [], ["c"], name="c", value=numpy_helper.from_array(np.ones(3, np.int8))),
        helper.make_node("Cast", ["c"], ["burden"], to=TensorProto.FLOAT),
    ).SerializeToString(),
]


@settings(max_examples=300)
@given(st.binary(max_size=600))
def test_random_bytes_are_refused_at_every_level(data: bytes) -> None:
    judged(data)
    for number in SCHEMA["GraphProto"]:
        judged(write(7, 2, write(number, 2, data)))


@settings(max_examples=500)
@given(st.sampled_from(HONEST), st.data())
def test_a_model_with_bytes_exchanged_is_refused_or_means_the_same_to_protobuf(
    honest: bytes, data: st.DataObject
) -> None:
    changed = bytearray(honest)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed)))
        changed[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    check(bytes(changed))


@settings(max_examples=1000)
@given(st.sampled_from(HONEST), st.integers(0, 2**64), st.integers(1, 5))
def test_a_model_with_fields_exchanged_is_refused_or_means_the_same_to_protobuf(
    honest: bytes, seed: int, times: int
) -> None:
    rng = Random(seed)
    for _ in range(times):
        honest = mutate(honest, rng)
    check(honest)


leaves = st.one_of(
    st.integers(0, 2**64 - 1), st.binary(max_size=9), st.sampled_from([b"Relu", b"", b"ai.onnx", b"Loop"])
)
trees = st.recursive(leaves, lambda inner: st.lists(st.tuples(st.integers(1, 26), inner), max_size=6), max_leaves=30)


def written(tree: object) -> int | bytes:
    """A tree of fields as it stands in a file."""
    if not isinstance(tree, list):
        return tree  # type: ignore[return-value]
    parts = ((number, written(inner)) for number, inner in tree)
    return b"".join(write(number, 0 if isinstance(inner, int) else 2, inner) for number, inner in parts)


@settings(max_examples=200)
@given(st.lists(trees, min_size=1, max_size=4), st.sampled_from(sorted(SCHEMA["GraphProto"])))
def test_trees_of_fields_are_refused_or_mean_the_same_to_protobuf(parts: list[object], number: int) -> None:
    graph = b"".join(write(number, 2, inner) for part in parts if isinstance(inner := written(part), bytes))
    node = write(1, 2, write(4, 2, b"Relu"))
    check(write(7, 2, graph + node))
    check(write(7, 2, node) + b"".join(inner for part in parts if isinstance(inner := written(part), bytes)))


def test_the_checks_see_models_that_are_accepted() -> None:
    rng = Random(0)
    assert all(map(check, HONEST))
    assert sum(check(mutate(HONEST[0], rng)) for _ in range(200)) > 20
