"""Suspects in all honest shapes answer what numpy computes; every other shape, and every liar, is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from pi_agent.contract.errors import RefusedModel
from pi_agent.contract.manifest import InputSpec
from pi_agent.runtime.session import NotFinite
from pi_agent.runtime.shapes import MAX_CLASSES
from pi_agent.runtime.suspect import Limits, Suspect
from tests.support_models import colour_net, make, save
from tests.support_suspects import KINDS, Place, conv_net, listed_as_inputs, unsqueezed

PICTURES = np.random.default_rng(1).integers(0, 256, (11, 300, 300, 3), dtype=np.uint8)
SPEC = InputSpec(size=(48, 40))
TOLERANCE = {"float16": {"rtol": 2e-3, "atol": 2e-2}}
node = helper.make_node


def ask(model: onnx.ModelProto, folder: Path, spec: InputSpec = SPEC, limits: Limits | None = None) -> np.ndarray:
    with Suspect(save(model, folder / "suspect.onnx")).running(limits) as run:
        return run.answers(PICTURES, spec)


def refusal(model: onnx.ModelProto, folder: Path, spec: InputSpec = SPEC) -> str:
    with pytest.raises(RefusedModel) as caught:
        ask(model, folder, spec)
    assert caught.value.exit_code == 65
    assert caught.value.advice
    assert str(caught.value).isprintable()
    return str(caught.value)


# --- How it wants its pictures ---


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "uint8", "int8"])
def test_every_layout_and_type_of_input_answers_what_numpy_computes(tmp_path: Path, layout: str, dtype: str) -> None:
    shape = ("n", 3, 32, 56) if layout == "NCHW" else ("n", 32, 56, 3)
    net = Place(layout, shape, dtype)
    spec = InputSpec(scale=1 / 127.5, mean=(0.9, 1.0, 1.1), std=(0.5, 1.0, 2.0))
    with Suspect(save(net.model(), tmp_path / "m.onnx")).running() as run:
        raw, reads = run.answers(PICTURES, spec), run.reads
    assert (reads.dtype, reads.layout, reads.size, reads.batch) == (dtype, layout, (32, 56), 0)
    assert raw.dtype == np.float32
    wanted = net.expected(PICTURES, spec, (32, 56))
    assert np.allclose(raw, wanted, **TOLERANCE.get(dtype, {"rtol": 1e-4, "atol": 1e-4}))


@pytest.mark.parametrize("batch", ["n", 1, 2, 7, 64])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_any_batch_gives_the_same_answers(tmp_path: Path, batch: int | str, dtype: str) -> None:
    net = Place(shape=(batch, 3, 64, 64), dtype=dtype)
    assert np.allclose(ask(net.model(), tmp_path), net.expected(PICTURES, SPEC, (64, 64)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "works", "asked", "layout", "size", "fed"),
    [
        (("n", 3, "h", "w"), "NCHW", "NHWC", "NCHW", None, (48, 40)),
        (("n", "h", "w", 3), "NHWC", "NCHW", "NHWC", None, (48, 40)),
        (("n", 3, 96, "w"), "NCHW", "NCHW", "NCHW", None, (96, 40)),
        (("n", "c", 32, 56), "NCHW", "NHWC", "NCHW", (32, 56), (32, 56)),
        (("n", 32, 56, "c"), "NHWC", "NCHW", "NHWC", (32, 56), (32, 56)),
        (("n", "c", "h", "w"), "NCHW", "NCHW", None, None, (48, 40)),
        (("n", "h", "w", "c"), "NHWC", "NHWC", None, None, (48, 40)),
        ((1, 3, 224, 192), "NCHW", "NCHW", "NCHW", (224, 192), (224, 192)),
    ],
)
def test_free_layouts_and_sizes_are_taken_from_the_specification(
    tmp_path: Path,
    shape: tuple[int | str, ...],
    works: str,
    asked: str,
    layout: str | None,
    size: tuple[int, int] | None,
    fed: tuple[int, int],
) -> None:
    net, spec = Place(works, shape), InputSpec(size=SPEC.size, layout=asked)
    with Suspect(save(net.model(), tmp_path / "m.onnx")).running() as run:
        assert (run.reads.layout, run.reads.size) == (layout, size)
        assert np.allclose(run.answers(PICTURES, spec), net.expected(PICTURES, spec, fed), rtol=1e-4, atol=1e-4)


def test_weights_that_are_listed_as_inputs_do_not_count(tmp_path: Path) -> None:
    net = Place()
    raw = ask(listed_as_inputs(net.model()), tmp_path)
    assert np.allclose(raw, net.expected(PICTURES, SPEC, (64, 64)), rtol=1e-4, atol=1e-4)


def test_one_child_answers_many_questions_in_different_preparations(tmp_path: Path) -> None:
    net = Place(shape=("n", 3, "h", "w"))
    specs = [SPEC, InputSpec(size=(32, 32), scale=1.0), InputSpec(mean=(0.5,) * 3, std=(0.5,) * 3, layout="NHWC"), SPEC]
    with Suspect(save(net.model(), tmp_path / "m.onnx")).running() as run:
        for count, spec in zip((11, 3, 0, 1), specs, strict=True):
            raw = run.answers(PICTURES[:count], spec)
            if count == 0:
                assert raw.shape == (0, 0)
            else:
                assert np.allclose(raw, net.expected(PICTURES[:count], spec), rtol=1e-4, atol=1e-3)


def test_a_suspect_runs_twice_unless_its_file_changes(tmp_path: Path) -> None:
    net = Place()
    suspect = Suspect(save(net.model(), tmp_path / "m.onnx"))
    first, again = (suspect.scores(PICTURES, 4, SPEC) for _ in range(2))
    assert np.array_equal(first, again)
    save(Place(seed=1).model(), tmp_path / "m.onnx")
    with pytest.raises(RefusedModel, match="changed since it was inspected"):
        suspect.scores(PICTURES, 4, SPEC)


# --- How it answers ---


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("axes", [(), (2,), (2, 3), (1, 2)])
def test_scores_in_any_float_and_with_dimensions_of_one(tmp_path: Path, dtype: str, axes: Sequence[int]) -> None:
    net = Place()
    after = [node("Cast", ["plain"], ["cast"], to=KINDS[dtype])]
    after += unsqueezed(axes, "cast", "scores") if axes else [node("Identity", ["cast"], ["scores"])]
    raw = ask(net.model(*after, to="plain", outputs=[("scores", dtype, None)]), tmp_path)
    assert raw.dtype == np.float32
    wanted = net.expected(PICTURES, SPEC, (64, 64))
    assert raw.shape == wanted.shape
    assert np.allclose(raw, wanted, **TOLERANCE.get(dtype, {"rtol": 1e-4, "atol": 1e-4}))


@pytest.mark.parametrize(("dtype", "zero"), [("uint8", 128), ("int8", 0)])
def test_quantised_scores_come_back_as_they_are(tmp_path: Path, dtype: str, zero: int) -> None:
    net = Place()
    model = net.model(
        node("QuantizeLinear", ["plain", "step", "zero"], ["scores"]), to="plain", outputs=[("scores", dtype, ("n", 4))]
    )
    for name, value in {"step": np.array(0.05, np.float32), "zero": np.array(zero, dtype)}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    raw = ask(model, tmp_path)
    assert raw.dtype == np.float32
    low = np.iinfo(dtype).min
    wanted = (net.expected(PICTURES, SPEC, (64, 64)) / 0.05 + zero).clip(low, low + 255)
    assert np.abs(raw - wanted).max() <= 0.51


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize(("keep", "batch"), [(0, "n"), (1, "n"), (0, 1), (1, 3)])
def test_class_numbers_alone_are_an_answer(tmp_path: Path, dtype: str, keep: int, batch: int | str) -> None:
    net = Place(shape=(batch, 3, 64, 64))
    after = [
        node("ArgMax", ["plain"], ["best"], axis=1, keepdims=keep),
        node("Cast", ["best"], ["scores"], to=KINDS[dtype]),
    ]
    raw = ask(net.model(*after, to="plain", outputs=[("scores", dtype, None)]), tmp_path)
    assert raw.dtype == np.int64
    assert np.array_equal(raw, net.expected(PICTURES, SPEC, (64, 64)).argmax(axis=1))


def test_who_wants_scores_refuses_class_numbers(tmp_path: Path) -> None:
    model = Place().model(node("ArgMax", ["s"], ["y"], axis=1), to="s", outputs=[("y", "int64", None)])
    with pytest.raises(RefusedModel, match="class numbers only; the claim has 4 classes"):
        Suspect(save(model, tmp_path / "m.onnx")).scores(PICTURES, 4, SPEC)


MORE = {
    "label": (node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0), "int64"),
    "map": (node("Identity", ["pixels"], ["map"]), "float32"),
    "sure": (node("ReduceMax", ["scores"], ["sure"], keepdims=0), "float32"),
    "bright": (node("ReduceMean", ["pixels"], ["bright"], keepdims=0), "float32"),
    "logits": (node("Identity", ["scores"], ["logits"]), "float32"),
    "second": (node("ArgMin", ["scores"], ["second"], axis=1, keepdims=0), "int64"),
}


def with_outputs(*names: str) -> onnx.ModelProto:
    after = [MORE[name][0] for name in names if name != "scores"]
    declared = [(name, MORE[name][1] if name in MORE else "float32", None) for name in names]
    return Place().model(*after, outputs=declared)


@pytest.mark.parametrize(
    ("names", "form"),
    [
        (("scores", "label"), "scores"),
        (("map", "label", "scores"), "scores"),
        (("label", "map", "sure"), "labels"),
        (("bright", "scores"), "scores"),
    ],
)
def test_of_several_outputs_the_one_that_can_be_an_answer_is_used(
    tmp_path: Path, names: Sequence[str], form: str
) -> None:
    raw, wanted = ask(with_outputs(*names), tmp_path), Place().expected(PICTURES, SPEC, (64, 64))
    if form == "labels":
        assert np.array_equal(raw, wanted.argmax(axis=1))
    else:
        assert np.allclose(raw, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("scores", "logits"), "several of its outputs may be the answer: 'scores' float32 [5, 4], 'logits' float32"),
        (("label", "second"), "several of its outputs may be the answer: 'label' int64 [5], 'second' int64 [5]"),
        (("map", "bright"), "none of its outputs is an answer to 5 pictures: 'map' float32 [5, 3, 64, 64], 'bright'"),
    ],
)
def test_outputs_that_leave_a_choice_or_none_are_refused_by_name(
    tmp_path: Path, names: Sequence[str], reason: str
) -> None:
    assert reason in refusal(with_outputs(*names), tmp_path)


def test_more_than_eight_outputs_are_refused(tmp_path: Path) -> None:
    after = [node("Identity", ["scores"], [f"s{i}"]) for i in range(9)]
    assert "more than 8 outputs" in refusal(
        Place().model(*after, outputs=[(f"s{i}", "float32", None) for i in range(9)]), tmp_path
    )


@pytest.mark.parametrize("dtype", ["bool", "bfloat16"])
def test_an_output_that_holds_no_numbers_for_us_is_refused_by_name(tmp_path: Path, dtype: str) -> None:
    after = [node("Cast", ["scores"], ["odd"], to=KINDS[dtype])]
    reason = refusal(Place().model(*after, outputs=[("odd", dtype, ("n", 4))]), tmp_path)
    assert f"it has 1 output ('odd' is tensor({dtype}) [?, 4]); one row of scores or one class number" in reason


@pytest.mark.parametrize("classes", [2, MAX_CLASSES])
def test_few_and_many_classes_are_an_answer(tmp_path: Path, classes: int) -> None:
    assert ask(Place(classes=classes).model(), tmp_path).shape == (11, classes)


@pytest.mark.parametrize("classes", [1, MAX_CLASSES + 1])
def test_too_few_and_too_many_classes_are_refused(tmp_path: Path, classes: int) -> None:
    reason = refusal(Place(classes=classes).model(), tmp_path)
    assert f"its output 'scores' is float32 [5, {classes}] for 5 pictures; one row of scores" in reason


def test_a_number_of_classes_that_changes_is_refused(tmp_path: Path) -> None:
    """Each batch gives a square: with 11 pictures 5x5, 5x5, and then 1x1."""
    after = [node("Transpose", ["plain"], ["turned"]), node("MatMul", ["plain", "turned"], ["scores"])]
    model = Place().model(*after, to="plain", outputs=[("scores", "float32", None)])
    assert "its output 'scores' is float32 [1, 1] for 1 pictures" in refusal(model, tmp_path)


@pytest.mark.parametrize("shift", [-5, MAX_CLASSES])
def test_class_numbers_out_of_range_are_refused(tmp_path: Path, shift: int) -> None:
    after = [
        node("ArgMax", ["plain"], ["best"], axis=1),
        node("Constant", [], ["shift"], value_int=shift),
        node("Add", ["best", "shift"], ["label"]),
    ]
    model = Place().model(*after, to="plain", outputs=[("label", "int64", None)])
    assert "its output 'label' holds class numbers beyond 0..4095" in refusal(model, tmp_path)


def test_a_half_float_that_overflows_is_refused_and_may_be_asked_again(tmp_path: Path) -> None:
    """Prepared wrongly, an honest half-precision network overflows: the caller may try another preparation."""
    net = Place(dtype="float16")
    after = [
        node("Cast", ["plain"], ["half"], to=TensorProto.FLOAT16),
        node("Mul", ["half", "half"], ["scores"]),
    ]
    model = net.model(*after, to="plain", outputs=[("scores", "float16", None)])
    with Suspect(save(model, tmp_path / "m.onnx")).running() as run:
        with pytest.raises(NotFinite, match="output 'scores' holds answers that are not finite"):
            run.answers(PICTURES, InputSpec(scale=1.0))
        wanted = net.expected(PICTURES, SPEC, (64, 64)) ** 2
        assert np.allclose(run.answers(PICTURES, SPEC), wanted, rtol=1e-2, atol=5e-2)


# --- Quantised ---


class Calibration(CalibrationDataReader):
    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        self._left = [{"image": rng.random((8, 3, 64, 64), dtype=np.float32)} for _ in range(3)]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return self._left.pop() if self._left else None


def dynamic(source: Path, target: Path) -> None:
    quantize_dynamic(str(source), str(target))


def static_qdq(source: Path, target: Path) -> None:
    quantize_static(
        str(source),
        str(target),
        Calibration(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
    )


@pytest.mark.parametrize("quantise", [dynamic, static_qdq])
def test_quantised_networks_answer_nearly_as_the_float_one(
    tmp_path: Path, quantise: Callable[[Path, Path], None]
) -> None:
    model = save(conv_net(), tmp_path / "float.onnx")
    quantise(model, tmp_path / "int8.onnx")
    scores, small = (Suspect(path).scores(PICTURES, 4, SPEC) for path in (model, tmp_path / "int8.onnx"))
    assert not np.array_equal(scores, small)
    assert np.abs(scores - small).max() < 0.1 * np.abs(scores).max()


# --- Children that lie ---


FIRST = {
    "inputs": [{"name": "image", "type": "tensor(float)", "shape": [None, 3, 64, 64]}],
    "outputs": [{"name": "scores", "type": "tensor(float)", "shape": [None, 4]}],
}
GOOD = {"answers": [{"type": "float32", "shape": [5, 4]}]}
PROGRAM = """import json, sys, time
source, sink = sys.stdin.buffer, sys.stdout.buffer
def say(header, body=b""):
    sink.write((header if isinstance(header, bytes) else json.dumps(header).encode()) + b"\\n" + body); sink.flush()
def model(): source.read(json.loads(source.readline())["model_bytes"])
def batch(count=5): source.readline(); source.read(4 * count * 3 * 64 * 64)
"""


def lied_to(program: str, folder: Path, monkeypatch: pytest.MonkeyPatch, wall_seconds: float = 60) -> str:
    worker = folder / "worker.py"
    worker.write_text(f"FIRST, GOOD = {FIRST!r}, {GOOD!r}\n{PROGRAM}{program}\n", encoding="utf-8")
    monkeypatch.setattr("pi_agent.runtime.child.WORKER", worker)
    with pytest.raises(RefusedModel) as caught:
        ask(colour_net(), folder, limits=Limits(wall_seconds=wall_seconds))
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_the_liar_of_these_tests_could_tell_the_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = "model(); say(FIRST)\nfor n in (5, 5, 1): batch(n); say(GOOD, bytes(80))"
    assert "its output 'scores' is float32 [5, 4] for 1 pictures" in lied_to(program, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"{}",
        b"[1]",
        b"null",
        b'{"error": 5}',
        b'{"inputs": 5, "outputs": []}',
        b'{"inputs": [], "outputs": [[]]}',
        b"[" * 60_000,
        b'{"inputs": [' + b"9" * 50_000 + b"]}",
        b'{"inputs": "' + b"x" * 5_000_000 + b'"}',
        json.dumps({**FIRST, "more": 1}).encode(),
        json.dumps(
            {**FIRST, "inputs": [{"name": "image", "type": "tensor(float)", "shape": ["n", 3, 64, 64]}]}
        ).encode(),
    ],
)
def test_a_first_word_that_makes_no_sense_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    (tmp_path / "first").write_bytes(first)
    program = f"model(); say(open({str(tmp_path / 'first')!r}, 'rb').read())"
    assert "no proper answer" in lied_to(program, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("{'answers': [{'type': 'float32', 'shape': [5, 10**9]}]}", "[5, 1000000000] for 5 pictures"),
        ("{'answers': [{'type': 'float32', 'shape': [10**6, 4]}]}", "[1000000, 4] for 5 pictures"),
        ("{'answers': [{'type': 'float32', 'shape': [5, -4]}]}", "[5, -4] for 5 pictures"),
        ("{'answers': [{'type': 'float32', 'shape': []}]}", "[] for 5 pictures"),
        ("{'answers': [{'type': 'object', 'shape': [5, 4]}]}", "is object [5, 4]"),
        ("{'answers': [{'type': None, 'shape': [5, 4]}]}", "is no numbers [5, 4]"),
        ("{'answers': [{'type': 'float32', 'shape': [5, True]}]}", "no proper answer"),
        ("{'answers': [{'type': 'float32', 'shape': [5.0, 4]}]}", "no proper answer"),
        ("{'answers': []}", "no proper answer"),
        ("{'answers': GOOD['answers'] * 2}", "no proper answer"),
        ("{'answers': 7}", "no proper answer"),
        ("FIRST", "no proper answer"),
        ("b'x' * 10**6", "no proper answer"),
        ("{'error': 'a\\x1b[31mred word' + 'x' * 9000}", "a?[31mred word"),
    ],
)
def test_an_answer_that_makes_no_sense_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, reason: str
) -> None:
    assert reason in lied_to(f"model(); say(FIRST); batch(); say({answer}); time.sleep(60)", tmp_path, monkeypatch)


def test_too_few_bytes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = lied_to("model(); say(FIRST); batch(); say(GOOD, bytes(79)); sys.exit(3)", tmp_path, monkeypatch)
    assert "no proper answer (exit code 3)" in reason


def test_too_many_bytes_are_no_answer_to_the_next_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = "model(); say(FIRST); batch(); say(GOOD, bytes(80) + b'more\\n'); batch(); time.sleep(60)"
    assert "no proper answer" in lied_to(program, tmp_path, monkeypatch)


def test_a_flood_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = "model(); say(FIRST); batch(); say(GOOD, bytes(80))\nwhile True: sink.write(bytes(100_000))"
    assert "no result within 1 s" in lied_to(program, tmp_path, monkeypatch, wall_seconds=1)


@pytest.mark.parametrize(
    "program",
    [
        "time.sleep(60)",
        "model(); time.sleep(60)",
        "model(); say(FIRST); time.sleep(60)",
        "model(); say(FIRST); batch(); say(GOOD, bytes(79)); time.sleep(60)",
        "model(); sink.write(b'{'); sink.flush(); time.sleep(60)",
    ],
)
def test_a_child_that_stands_still_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    assert "no result within 1 s" in lied_to(program, tmp_path, monkeypatch, wall_seconds=1)


def test_a_child_that_goes_before_it_is_asked_may_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "refused: out of luck" in lied_to("say({'error': 'out of luck'})", tmp_path, monkeypatch)


def test_a_model_with_many_long_names_still_gets_its_reason(tmp_path: Path) -> None:
    shape = ("n", 3, 64, 64)
    nodes = [node("Identity", ["image"], [f"{i}" + "\U0001f426" * 1000]) for i in range(30)]
    model = make(nodes, shape=shape)
    del model.graph.output[:]
    for made in nodes:
        model.graph.output.append(helper.make_tensor_value_info(made.output[0], TensorProto.FLOAT, shape))
    assert "more than 8 outputs" in refusal(model, tmp_path)
