"""The inspection of untrusted ONNX files: honest ones pass, everything else is `RefusedModel` before it is run."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pi_agent.contract.errors import RefusedModel
from pi_agent.runtime import inspect as policy
from pi_agent.runtime.inspect import Contents, inspect_model
from pi_agent.runtime.suspect import Suspect
from tests.support_models import colour_net, save, with_extra
from tests.unit.test_wire import encode, write

HONEST = colour_net().SerializeToString()


def refusal(model: onnx.ModelProto | bytes) -> str:
    """The reason for which a model is refused."""
    with pytest.raises(RefusedModel) as caught:
        inspect_model(model if isinstance(model, bytes) else model.SerializeToString(), "suspect.onnx")
    assert caught.value.exit_code == 65
    return str(caught.value)


def external(name: str = "stolen", location: str = "../../etc/passwd") -> onnx.TensorProto:
    """A tensor whose data is elsewhere."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[3, 4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def test_an_honest_model_passes_and_is_counted() -> None:
    found = inspect_model(HONEST, "x")
    assert found.operators == {"ReduceMean": 1, "MatMul": 1}
    assert found.nodes == 2
    assert found.elements == 2 + 12


def test_half_precision_weights_pass() -> None:
    half = np.ones((3, 4), np.float16)
    model = with_extra(helper.make_node("Cast", ["half"], ["burden"], to=TensorProto.FLOAT), half=half)
    assert inspect_model(model.SerializeToString(), "x").operators["Cast"] == 1


# --- Data elsewhere ---


def test_external_data_in_an_initializer_is_refused_by_name() -> None:
    model = colour_net()
    model.graph.initializer.append(external("weights"))
    assert "'weights' keeps its data in another file" in refusal(model)


@pytest.mark.parametrize("keep", ["location", "list"])
def test_either_sign_of_external_data_suffices(keep: str) -> None:
    tensor = external()
    tensor.ClearField("external_data" if keep == "location" else "data_location")
    model = colour_net()
    model.graph.initializer.append(tensor)
    assert "another file" in refusal(model)


def test_external_data_in_an_attribute_is_refused() -> None:
    node = helper.make_node("Constant", [], ["burden"], value=external())
    assert "another file" in refusal(with_extra(node))
    listed = helper.make_node("Constant", [], ["burden"])
    listed.attribute.append(onnx.AttributeProto(name="values", type=onnx.AttributeProto.TENSORS, tensors=[external()]))
    assert "another file" in refusal(with_extra(listed))


def test_external_data_cannot_hide_behind_a_repeated_field() -> None:
    for first, last in ((1, 0), (0, 1)):  # data_location twice: protobuf takes the last, we judge both
        tensor = TensorProto(name="twice").SerializeToString() + write(14, 0, first) + write(14, 0, last)
        graph = colour_net().graph.SerializeToString() + write(5, 2, tensor)
        assert "another file" in refusal(write(1, 0, 10) + write(7, 2, graph))


def test_an_attribute_with_two_tensors_that_protobuf_would_merge_is_refused() -> None:
    tensor = numpy_helper.from_array(np.ones(3, np.float32)).SerializeToString()
    attribute = write(1, 2, b"value") + write(20, 0, 4) + write(5, 2, tensor) * 2
    node = write(4, 2, b"Constant") + write(2, 2, b"burden") + write(5, 2, attribute)
    assert "gives its tensor twice" in refusal(write(7, 2, write(1, 2, node)))


# --- Operators ---


@pytest.mark.parametrize("domain", ["com.microsoft", "ai.onnx.ml", "custom", "ai.onnx\x00", "AI.ONNX", "x" * 1000])
def test_foreign_domains_are_refused(domain: str) -> None:
    assert "foreign domain" in refusal(with_extra(helper.make_node("Gelu", ["a"], ["burden"], domain=domain)))


def test_the_standard_domain_may_be_spelt_out() -> None:
    node = helper.make_node("Constant", [], ["burden"], domain="ai.onnx", value_float=0.0)
    assert inspect_model(with_extra(node).SerializeToString(), "x").nodes == 4


@pytest.mark.parametrize("domains", [(b"com.microsoft", b""), (b"", b"com.microsoft")])
def test_a_foreign_domain_cannot_hide_behind_a_repeated_field(domains: tuple[bytes, bytes]) -> None:
    node = write(4, 2, b"Gelu") + b"".join(write(7, 2, domain) for domain in domains)
    assert "foreign domain" in refusal(write(7, 2, write(1, 2, node)))


@pytest.mark.parametrize("operators", [(b"Loop", b"Relu"), (b"Relu", b"Loop")])
def test_control_flow_cannot_hide_behind_a_repeated_field(operators: tuple[bytes, bytes]) -> None:
    node = b"".join(write(4, 2, operator) for operator in operators)
    assert "is a Loop" in refusal(write(7, 2, write(1, 2, node)))


@pytest.mark.parametrize("operator", ["Loop", "Scan", "If", "SequenceMap"])
def test_control_flow_is_refused(operator: str) -> None:
    assert f"'endless' is a {operator}" in refusal(
        with_extra(helper.make_node(operator, [], ["burden"], name="endless"))
    )


@pytest.mark.parametrize("number", [6, 11])
def test_a_graph_inside_a_node_is_refused_at_any_depth(number: int) -> None:
    graph = b""
    for _ in range(2000):
        attribute = write(1, 2, b"body") + write(number, 2, graph)
        graph = write(1, 2, write(3, 2, b"deep") + write(4, 2, b"Relu") + write(5, 2, attribute))
    assert "'deep' holds a graph of its own" in refusal(write(7, 2, graph))


def test_functions_training_graphs_and_sparse_tensors_are_refused() -> None:
    model = colour_net()
    model.functions.append(onnx.FunctionProto(name="f", domain="mine"))
    assert "functions of its own" in refusal(model)
    model = colour_net()
    model.training_info.append(onnx.TrainingInfoProto(algorithm=model.graph))
    assert "training graph" in refusal(model)
    model = colour_net()
    model.graph.sparse_initializer.append(onnx.SparseTensorProto(dims=[4]))
    assert "sparse" in refusal(model)
    node = helper.make_node("Constant", [], ["burden"])
    node.attribute.append(onnx.AttributeProto(name="sparse_value", sparse_tensor=onnx.SparseTensorProto(dims=[4])))
    assert "sparse" in refusal(with_extra(node))


# --- Sizes ---


@pytest.mark.parametrize("dims", [[10**12], [10**6, 10**6], [10**12, 0], [0, 10**12], [2**62, 4], [128_000_001]])
def test_enormous_tensors_are_refused(dims: list[int]) -> None:
    model = colour_net()
    model.graph.initializer.append(TensorProto(name="big", data_type=1, dims=dims))
    assert "'big': more than 128,000,000 elements" in refusal(model)


def test_many_large_tensors_count_together() -> None:
    model = colour_net()
    model.graph.initializer.extend(TensorProto(name=f"t{i}", data_type=1, dims=[50_000_000]) for i in range(3))
    assert "'t2': more than" in refusal(model)


@pytest.mark.parametrize("dims", [[-1], [3, -4], [-(2**63)]])
def test_negative_dimensions_are_refused(dims: list[int]) -> None:
    model = colour_net()
    model.graph.initializer.append(TensorProto(name="odd", data_type=1, dims=dims))
    assert "'odd' has a negative dimension" in refusal(model)


def test_dimensions_count_in_either_spelling() -> None:
    for dims in (write(1, 0, 2_000_000_000), write(1, 2, encode(2_000_000_000)), write(1, 0, 20_000) * 2):
        assert "more than" in refusal(write(7, 2, write(5, 2, dims + write(8, 2, b"w"))))


def test_a_million_dimensions_are_refused() -> None:
    for dims in (write(1, 2, b"\x01" * 1_000_000), write(1, 0, 1) * 33):
        assert "more than 32 dimensions" in refusal(write(7, 2, write(5, 2, dims)))


def test_too_many_nodes_are_refused() -> None:
    assert "more than 20,000 nodes" in refusal(write(7, 2, write(1, 2, b"") * 20_001))


def test_the_walk_is_bounded_in_time() -> None:
    tiny = write(12, 0, 0)
    for data in (write(7, 2, tiny * 500_000 + write(1, 2, tiny * 500_000)), write(7, 2, b"") + tiny * 1_000_000):
        assert "more than 1,000,000 fields" in refusal(data)


# --- Files ---


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"PK\x03\x04" * 50, b"\x89HDF\r\n\x1a\n" * 9, os.urandom(5000), HONEST[:-1]]
)
def test_other_files_are_refused(data: bytes) -> None:
    refusal(data)


def test_a_model_without_graph_or_nodes_or_with_two_graphs_is_refused() -> None:
    graph = colour_net().graph.SerializeToString()
    assert "no graph in it" in refusal(write(1, 0, 10))
    assert "no nodes" in refusal(write(7, 2, b""))
    assert "several graphs" in refusal(write(7, 2, graph) * 2)


def test_the_runtimes_own_format_is_refused_even_inside_a_valid_model() -> None:
    """ONNX Runtime looks at bytes 4 to 8 only and would then read a flatbuffer that nobody inspected."""
    disguised = write(2, 2, b"abORTM is the producer") + HONEST
    assert disguised[4:8] == b"ORTM"
    assert onnx.load_from_string(disguised).graph.node
    assert "own format" in refusal(disguised)


def test_special_files_and_links_are_refused_at_once(tmp_path: Path) -> None:
    real = save(HONEST, tmp_path / "real.onnx")
    (tmp_path / "link.onnx").symlink_to(real)
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "folder.onnx").mkdir()
    for name in ("link.onnx", "pipe.onnx", "folder.onnx", "absent.onnx"):
        with pytest.raises(RefusedModel):
            Suspect(tmp_path / name)
    assert Suspect(real).contents.nodes == 2
    os.link(real, tmp_path / "second.onnx")
    with pytest.raises(RefusedModel, match="hard links"):
        Suspect(real)


def test_a_file_above_the_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as stream:
        stream.truncate(policy.MAX_MODEL_BYTES + 1)
    with pytest.raises(RefusedModel, match="larger than"):
        Suspect(path)


# --- Fuzzing: nothing but RefusedModel, and what passes is what protobuf reads ---


def judged(data: bytes) -> Contents | None:
    try:
        return inspect_model(data, "fuzz")
    except RefusedModel:
        return None


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=600))
def test_random_bytes_never_raise_anything_else(data: bytes) -> None:
    judged(data)
    judged(write(7, 2, data))
    judged(write(7, 2, write(1, 2, data)))
    judged(write(7, 2, write(5, 2, data)))


@settings(deadline=None, max_examples=500)
@given(st.data())
def test_a_mutated_model_is_refused_or_means_the_same_to_protobuf(data: st.DataObject) -> None:
    mutated = bytearray(HONEST)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        mutated[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        if not mutated:
            break
    contents = judged(bytes(mutated))
    if contents is None:
        return
    try:
        model = onnx.load_from_string(bytes(mutated))
    except Exception:  # protobuf refuses more than we do, for example bad UTF-8
        return
    assert len(model.graph.node) == contents.nodes
    assert sum(contents.operators.values()) == contents.nodes
    assert all(node.domain in ("", "ai.onnx") for node in model.graph.node)
    assert not any(t.data_location or t.external_data for t in model.graph.initializer)
    assert not model.functions
