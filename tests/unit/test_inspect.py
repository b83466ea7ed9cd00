"""The inspection of untrusted ONNX files: honest ones pass, everything else is `RefusedModel` before it is run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from pi_agent.contract.errors import RefusedModel
from pi_agent.runtime.inspect import MAX_MODEL_BYTES, inspect_model
from pi_agent.runtime.policy import BITS, OPERATORS, QUANTISED, WHY_NOT
from pi_agent.runtime.schema import SCHEMA
from pi_agent.runtime.suspect import Suspect
from tests.hostile.protobuf import encode, write
from tests.support_models import colour_net, save, with_extra

HONEST = colour_net().SerializeToString()


def refusal(model: onnx.ModelProto | bytes) -> str:
    """The reason for which a model is refused."""
    with pytest.raises(RefusedModel) as caught:
        inspect_model(model if isinstance(model, bytes) else model.SerializeToString(), "suspect.onnx")
    assert caught.value.exit_code == 65
    return str(caught.value)


def with_initializer(tensor: bytes) -> bytes:
    """The colour net with one more tensor, given as it is written."""
    return write(1, 0, 10) + write(7, 2, colour_net().graph.SerializeToString() + write(5, 2, tensor))


def with_node(node: bytes) -> bytes:
    """The colour net with one more node, given as it is written."""
    return write(1, 0, 10) + write(7, 2, colour_net().graph.SerializeToString() + write(1, 2, node))


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


def test_what_exporters_add_passes() -> None:
    """Descriptions, metadata, unused imports, shapes in between, inputs that are weights, an unknown batch as -1."""
    model = colour_net(shape=("n", 3, 64, 64), batch=-1)
    model.producer_name, model.doc_string = "pytorch", "long " * 10_000
    model.metadata_props.add(key="names", value="{0: 'glass'}")
    model.opset_import.extend([helper.make_opsetid("ai.onnx.ml", 2), helper.make_opsetid("org.pytorch.aten", 1)])
    model.graph.value_info.append(helper.make_tensor_value_info("colour", TensorProto.FLOAT, ["n", 3]))
    model.graph.input.append(helper.make_tensor_value_info("matrix", TensorProto.FLOAT, [3, 4]))
    model.graph.quantization_annotation.add(tensor_name="colour").quant_parameter_tensor_names.add(key="k", value="v")
    for part in (model.graph, *model.graph.node, *model.graph.initializer, *model.graph.input):
        part.metadata_props.add(key="pkg.torch.onnx.stack_trace", value="File ...")
    assert inspect_model(model.SerializeToString(), "x").nodes == 2


@pytest.mark.parametrize("kind", sorted(BITS))
@pytest.mark.parametrize("raw", [True, False])
def test_numbers_of_every_type_and_spelling_are_counted(kind: int, raw: bool) -> None:
    values = np.array([1, 0, 1, 1, 0], helper.tensor_dtype_to_np_dtype(kind))
    if raw:
        tensor = numpy_helper.from_array(values, "t")
    else:
        tensor = helper.make_tensor("t", kind, [5], values.astype(np.float64).tolist())
    assert tensor.data_type == kind
    assert bool(tensor.raw_data) == raw
    model = colour_net()
    model.graph.initializer.append(tensor)
    assert inspect_model(model.SerializeToString(), "x").elements == 2 + 12 + 5


def test_numbers_written_one_by_one_are_counted() -> None:
    single = write(4, 5, b"\x00" * 4) * 3 + write(1, 0, 3) + write(2, 0, 1)
    assert inspect_model(with_initializer(single), "x").elements == 2 + 12 + 3


# --- Data elsewhere ---


def test_external_data_in_an_initializer_is_refused_by_name() -> None:
    model = colour_net()
    model.graph.initializer.append(external("weights"))
    assert "tensor 'weights': it keeps its data in another file" in refusal(model)


@pytest.mark.parametrize("keep", ["location", "list"])
def test_either_sign_of_external_data_suffices(keep: str) -> None:
    tensor = external()
    tensor.ClearField("external_data" if keep == "location" else "data_location")
    model = colour_net()
    model.graph.initializer.append(tensor)
    assert "'stolen': it keeps its data in another file" in refusal(model)


def test_external_data_in_an_attribute_is_refused_with_the_whole_way_to_it() -> None:
    node = helper.make_node("Constant", [], ["burden"], name="c", value=external())
    assert "node 'c': attribute 'value': tensor 'stolen': it keeps its data in another file" in refusal(
        with_extra(node)
    )
    listed = helper.make_node("Constant", [], ["burden"])
    listed.attribute.append(onnx.AttributeProto(name="values", type=onnx.AttributeProto.TENSORS, tensors=[external()]))
    assert "node 3: attribute 'values': tensor 'stolen': it keeps" in refusal(with_extra(listed))


# --- What protobuf would read, but not everybody in the same way ---


@pytest.mark.parametrize(("first", "reason"), [(0, "its data_location stands there twice"), (1, "in another file")])
def test_a_place_of_data_that_stands_twice_is_refused(first: int, reason: str) -> None:
    tensor = TensorProto(name="twice").SerializeToString() + write(14, 0, first) + write(14, 0, 1 - first)
    text = refusal(with_initializer(tensor))
    assert "tensor 'twice': " in text
    assert reason in text


def test_an_attribute_with_two_tensors_that_protobuf_would_merge_is_refused() -> None:
    tensor = numpy_helper.from_array(np.ones(3, np.float32)).SerializeToString()
    attribute = write(1, 2, b"value") + write(20, 0, 4) + write(5, 2, tensor) * 2
    node = write(4, 2, b"Constant") + write(2, 2, b"burden") + write(5, 2, attribute)
    assert "node 3: attribute 'value': its t stands there twice" in refusal(with_node(node))


@pytest.mark.parametrize("domains", [(b"com.microsoft", b""), (b"", b"com.microsoft")])
def test_a_domain_that_stands_twice_is_refused(domains: tuple[bytes, bytes]) -> None:
    node = write(3, 2, b"two") + write(4, 2, b"Gelu") + b"".join(write(7, 2, domain) for domain in domains)
    assert "node 'two': its domain stands there twice" in refusal(with_node(node))


@pytest.mark.parametrize("operators", [(b"Loop", b"Relu"), (b"Relu", b"Loop")])
def test_an_operator_that_stands_twice_is_refused(operators: tuple[bytes, bytes]) -> None:
    node = b"".join(write(4, 2, operator) for operator in operators)
    assert "node 3: its op_type stands there twice" in refusal(with_node(node))


def test_two_graphs_are_refused() -> None:
    assert "its graph stands there twice" in refusal(write(7, 2, colour_net().graph.SerializeToString()) * 2)


def test_fields_that_onnx_has_not_are_refused_with_their_place() -> None:
    assert "a ModelProto has no field 99" in refusal(HONEST + write(99, 0, 1))
    assert "node 'n': a NodeProto has no field 11" in refusal(with_node(write(3, 2, b"n") + write(11, 2, b"")))
    assert "tensor 't': a TensorProto has no field 15" in refusal(with_initializer(write(8, 2, b"t") + write(15, 0, 0)))


def test_known_fields_in_another_spelling_are_refused() -> None:
    assert "its op_type is not written as ONNX writes it" in refusal(with_node(write(4, 0, 1)))
    assert "its graph is not written" in refusal(write(7, 0, 1))


def test_two_imports_of_one_domain_are_refused_in_either_spelling() -> None:
    model = colour_net()
    model.opset_import.append(helper.make_opsetid("ai.onnx", 13))
    assert "imports the operators of 'ai.onnx' twice" in refusal(model)


def test_two_initializers_of_one_name_are_refused() -> None:
    model = colour_net()
    model.graph.initializer.append(model.graph.initializer[0])
    assert "tensor 'axes': there are two of that name" in refusal(model)


def test_names_must_be_utf_8_and_the_message_says_where() -> None:
    assert "node 'n': a name is no UTF-8" in refusal(with_node(write(3, 2, b"n") + write(4, 2, b"\xff\xfe")))


def test_names_and_descriptions_are_bounded_each_and_together() -> None:
    assert "longer than 4,096 bytes" in refusal(with_extra(helper.make_node("Relu", [], ["burden"], name="n" * 5000)))
    model = colour_net()
    model.doc_string = "x" * 2_000_000
    assert "its doc_string is longer than 1,048,576 bytes" in refusal(model)
    model = colour_net()
    for _ in range(40):
        model.metadata_props.add(key="k", value="x" * 1_000_000)
    assert "33,554,432 bytes of names and descriptions" in refusal(model)


def test_names_that_would_play_with_the_terminal_are_shown_harmlessly() -> None:
    wild = "\x1b]0;owned\x07\u202e\n" * 40
    node = helper.make_node("Loop", [], ["burden"], name=wild)
    text = refusal(with_extra(node))
    assert text.isprintable()
    assert len(text) < 300


# --- Operators ---


@pytest.mark.parametrize("domain", ["com.microsoft", "ai.onnx.ml", "custom", "ai.onnx\x00", "AI.ONNX", "x" * 1000])
def test_foreign_domains_are_refused(domain: str) -> None:
    text = refusal(with_extra(helper.make_node("Gelu", ["a"], ["burden"], name="odd", domain=domain)))
    assert "node 'odd': the operator 'Gelu' of the foreign domain" in text


def test_the_standard_domain_may_be_spelt_out() -> None:
    node = helper.make_node("Constant", [], ["burden"], domain="ai.onnx", value_float=0.0)
    assert inspect_model(with_extra(node).SerializeToString(), "x").nodes == 4


def test_models_for_tables_are_refused_with_what_to_do() -> None:
    model = with_extra(helper.make_node("TreeEnsembleClassifier", ["a"], ["burden"], domain="ai.onnx.ml"))
    with pytest.raises(RefusedModel) as caught:
        inspect_model(model.SerializeToString(), "trees.onnx")
    assert "plain ONNX" in caught.value.advice


@pytest.mark.parametrize("operator", ["Loop", "Scan", "If", "SequenceMap"])
def test_control_flow_is_refused(operator: str) -> None:
    text = refusal(with_extra(helper.make_node(operator, [], ["burden"], name="endless")))
    assert f"node 'endless': {operator} is control flow" in text


@pytest.mark.parametrize(
    ("operator", "reason"),
    [
        ("RandomNormal", "RandomNormal is random"),
        ("SequenceInsert", "about lists"),
        ("ImageDecoder", "about text or files"),
        ("Evil", "the operator 'Evil' is not one that a classifier of pictures needs"),
        ("", "the operator '' is not one"),
        ("\x1bRelu", r"'\\x1bRelu'"),
    ],
)
def test_operators_that_no_classifier_needs_are_refused(operator: str, reason: str) -> None:
    assert reason.replace(r"\\", "\\") in refusal(with_extra(helper.make_node(operator, [], ["burden"], name="x")))


def test_every_standard_operator_is_allowed_or_refused_for_a_reason() -> None:
    standard = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""}
    refused = {name for names in WHY_NOT.values() for name in names.split()}
    assert standard - OPERATORS == refused
    assert OPERATORS - standard == {"ImageScaler", "SimplifiedLayerNormalization"}, "older, or of ONNX Runtime"
    runtime = onnxruntime.capi.onnxruntime_pybind11_state.get_all_operator_schema()
    assert {schema.name for schema in runtime if schema.domain == "com.microsoft"} >= QUANTISED


def test_the_table_of_fields_is_that_of_onnx() -> None:
    """Every field stands in it under its number, read as it is, or refused with a reason."""
    found = {d.full_name.removeprefix("onnx."): d for d in described(onnx.ModelProto.DESCRIPTOR)}
    for message, table in SCHEMA.items():
        theirs = {field.number: field for field in found[message].fields}
        assert table.keys() == theirs.keys()
        for number, ours in table.items():
            assert ours.name == theirs[number].name
            assert ours.banned or ours.many == theirs[number].is_repeated
            if not ours.banned and theirs[number].message_type is not None:
                assert ours.message == theirs[number].message_type.full_name.removeprefix("onnx.")


def test_the_table_has_no_circles_so_depth_is_bounded() -> None:
    def depth(message: str, above: tuple[str, ...]) -> int:
        assert message not in above
        inner = {field.message for field in SCHEMA[message].values() if field.message}
        return 1 + max((depth(each, (*above, message)) for each in inner), default=0)

    assert depth("ModelProto", ()) == 7


def described(descriptor: Any) -> Iterator[Any]:
    """A message type and all that it can hold, each once."""
    todo, seen = [descriptor], set()
    while todo:
        if (it := todo.pop()).full_name not in seen:
            seen.add(it.full_name)
            yield it
            todo += [field.message_type for field in it.fields if field.message_type is not None]


@pytest.mark.parametrize("number", [6, 11])
def test_a_graph_inside_a_node_is_refused_at_any_depth(number: int) -> None:
    graph = b""
    for _ in range(2000):
        attribute = write(1, 2, b"body") + write(number, 2, graph)
        graph = write(1, 2, write(3, 2, b"deep") + write(4, 2, b"Relu") + write(5, 2, attribute))
    assert "node 'deep': attribute 'body': it holds a graph of its own" in refusal(write(7, 2, graph))


@pytest.mark.parametrize("kind", [5, 10, 11, 12, 13, 14, 99, 2**32 + 4])
def test_attributes_of_other_types_are_refused(kind: int) -> None:
    node = write(3, 2, b"n") + write(4, 2, b"Relu") + write(5, 2, write(1, 2, b"a") + write(20, 0, kind))
    assert f"node 'n': attribute 'a': its type {kind} is not accepted" in refusal(with_node(node))


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
    assert "attribute 'sparse_value': sparse tensors" in refusal(with_extra(node))


def test_settings_for_the_runtime_inside_the_model_are_refused() -> None:
    model = colour_net()
    model.metadata_props.add(key="ort_config", value='{"session_options": {"inter_op_num_threads": 64}}')
    assert "settings" in refusal(model)


# --- Inputs and outputs ---


@pytest.mark.parametrize("where", ["input", "output", "value_info"])
def test_ends_that_are_no_tensors_of_numbers_are_refused_by_name(where: str) -> None:
    def refused(value: onnx.ValueInfoProto) -> str:
        model = colour_net()
        getattr(model.graph, where).append(value)
        return refusal(model)

    called = where.partition("_")[0]
    assert f"{called} 'odd': it holds text" in refused(helper.make_tensor_value_info("odd", TensorProto.STRING, [1]))
    assert "data type 14" in refused(helper.make_tensor_value_info("odd", TensorProto.COMPLEX64, [1]))
    assert "data type 77" in refused(helper.make_tensor_value_info("odd", 77, [1]))
    assert "above 2,147,483,647" in refused(helper.make_tensor_value_info("odd", 1, [2**40]))
    assert "negative dimension" in refused(helper.make_tensor_value_info("odd", 1, [-2]))
    assert "more than 32 dimensions" in refused(helper.make_tensor_value_info("odd", 1, [1] * 33))
    nested = onnx.TypeProto()
    for _ in range(20):
        nested = helper.make_sequence_type_proto(nested)
    assert f"{called} 'odd': it is no tensor" in refused(helper.make_value_info("odd", nested))


# --- Sizes ---


@pytest.mark.parametrize("dims", [[10**12], [10**6, 10**6], [10**12, 0], [0, 10**12], [2**62, 4], [128_000_001]])
def test_enormous_tensors_are_refused(dims: list[int]) -> None:
    model = colour_net()
    model.graph.initializer.append(TensorProto(name="big", data_type=1, dims=dims))
    assert "tensor 'big': it declares more than 128,000,000 elements" in refusal(model)


@pytest.mark.parametrize(
    ("kind", "dims", "held", "reason"),
    [
        (1, [1000, 1000], {"raw_data": b"1234"}, "declares 1,000,000 elements, 4,000,000 bytes, but holds 4"),
        (1, [1], {"raw_data": b"12345678"}, "1 elements, 4 bytes, but holds 8"),
        (1, [2], {}, "2 elements, 2 values, but holds 0"),
        (1, [0], {"raw_data": b"1234"}, "0 elements, 0 bytes, but holds 4"),
        (1, [1], {"raw_data": b"1234", "float_data": [1.0]}, "its data twice"),
        (1, [1], {"int64_data": [1]}, "int64_data does not go with its data type 1"),
        (7, [3], {"int64_data": [1, 2]}, "3 elements, 3 values, but holds 2"),
        (22, [5], {"raw_data": b"12"}, "5 elements, 3 bytes, but holds 2"),
        (8, [1], {"string_data": [b"text"]}, "it holds text"),
        (8, [0], {}, "it holds text"),
        (15, [1], {"double_data": [1, 0]}, "its data type 15 is not accepted"),
        (0, [1], {"raw_data": b"1"}, "its data type 0 is not accepted"),
        (99, [1], {"raw_data": b"1"}, "its data type 99 is not accepted"),
        (1, [1], {"segment": TensorProto.Segment(begin=0, end=1)}, "a part of a tensor"),
    ],
)
def test_tensors_must_hold_what_they_declare(kind: int, dims: list[int], held: dict, reason: str) -> None:
    model = colour_net()
    model.graph.initializer.append(TensorProto(name="odd", data_type=kind, dims=dims, **held))
    text = refusal(model)
    assert "tensor 'odd': " in text
    assert reason in text


@pytest.mark.parametrize("dims", [[-1], [3, -4], [-(2**63)]])
def test_negative_dimensions_are_refused(dims: list[int]) -> None:
    model = colour_net()
    model.graph.initializer.append(TensorProto(name="odd", data_type=1, dims=dims))
    assert "tensor 'odd': it has a negative dimension" in refusal(model)


def test_many_large_tensors_count_together() -> None:
    half = write(1, 0, 70_000_000) + write(2, 0, 3) + write(9, 2, b"\0" * 70_000_000)
    text = refusal(write(7, 2, write(5, 2, half + write(8, 2, b"a")) + write(5, 2, half + write(8, 2, b"b"))))
    assert "tensor 'b': more than 128,000,000 elements in all" in text


def test_dimensions_count_in_either_spelling() -> None:
    for dims in (write(1, 0, 2_000_000_000), write(1, 2, encode(2_000_000_000)), write(1, 0, 20_000) * 2):
        assert "more than" in refusal(write(7, 2, write(5, 2, dims + write(8, 2, b"w"))))


def test_a_million_dimensions_are_refused() -> None:
    for dims in (write(1, 2, b"\x01" * 1_000_000), write(1, 0, 1) * 33):
        assert "more than 32 dimensions" in refusal(write(7, 2, write(5, 2, dims)))


def test_too_many_nodes_are_refused() -> None:
    assert "more than 20,000 nodes" in refusal(write(7, 2, write(1, 2, write(4, 2, b"Relu")) * 20_001))


def test_the_walk_is_bounded_in_time_wherever_the_fields_are() -> None:
    node = write(4, 2, b"Sum")
    many = (
        write(7, 2, write(1, 2, node + write(1, 2, b"") * 700_000)),
        write(7, 2, write(1, 2, node + write(5, 2, write(8, 0, 1) * 700_000))),
        write(7, 2, write(13, 2, b"") * 700_000),
        write(8, 2, b"") * 700_000,
    )
    for data in many:
        assert "more than 600,000 fields" in refusal(data)


# --- Files ---


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"PK\x03\x04" * 50, b"\x89HDF\r\n\x1a\n" * 9, os.urandom(5000), HONEST[:-1]]
)
def test_other_files_are_refused(data: bytes) -> None:
    refusal(data)


def test_a_model_without_graph_or_nodes_is_refused() -> None:
    assert "no graph in it" in refusal(write(1, 0, 10))
    assert "no nodes" in refusal(write(7, 2, b""))


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
        stream.truncate(MAX_MODEL_BYTES + 1)
    with pytest.raises(RefusedModel, match="larger than"):
        Suspect(path)
