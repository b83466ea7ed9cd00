"""A stranger's model in its child process: honest ones answer, hostile ones end as `RefusedModel`, nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pi_agent.contract.errors import RefusedModel
from pi_agent.contract.manifest import InputSpec
from pi_agent.prepare import network_input, shrink_to
from pi_agent.runtime.child import WORKER
from pi_agent.runtime.suspect import Limits, Suspect
from tests.support_models import colour_net, make, save, with_extra

PICTURES = np.random.default_rng(0).integers(0, 256, (9, 300, 300, 3), dtype=np.uint8)
SPEC = InputSpec()


def colours(seed: int = 0, spec: InputSpec = SPEC) -> np.ndarray:
    """What the colour net must answer to `PICTURES`, computed by numpy."""
    matrix = np.random.default_rng(seed).normal(0, 4, (3, 4)).astype(np.float32)
    batch = network_input(np.stack([shrink_to(p, spec) for p in PICTURES]), spec)
    return batch.mean(axis=(2, 3)) @ matrix


def run(model: onnx.ModelProto, folder: Path, classes: int = 4, limits: Limits | None = None) -> np.ndarray:
    return Suspect(save(model, folder / "suspect.onnx")).scores(PICTURES, classes, SPEC, limits)


def refusal(model: onnx.ModelProto, folder: Path, classes: int = 4, limits: Limits | None = None) -> str:
    with pytest.raises(RefusedModel) as caught:
        run(model, folder, classes, limits)
    assert caught.value.exit_code == 65
    assert caught.value.advice
    return str(caught.value)


# --- Honest models ---


@pytest.mark.parametrize("batch", ["n", 1, 4])
def test_answers_do_not_depend_on_the_batch_size(tmp_path: Path, batch: int | str) -> None:
    scores = run(colour_net(batch=batch), tmp_path)
    assert scores.dtype == np.float32
    assert scores.shape == (9, 4)
    assert np.allclose(scores, colours(), atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        (("n", 3, "h", "w"), (64, 64)),
        (("n", "h", "w", 3), (64, 64)),
        (("n", 48, 40, 3), (48, 40)),
        (("n", 3, 224, 224), (224, 224)),
    ],
)
def test_the_models_own_input_decides_layout_and_size(
    tmp_path: Path, shape: Sequence[int | str], size: tuple[int, int]
) -> None:
    assert np.allclose(run(colour_net(shape=shape), tmp_path), colours(spec=InputSpec(size=size)), atol=1e-4)


def test_half_precision_in_and_out_is_accepted(tmp_path: Path) -> None:
    model = colour_net()
    for initializer in model.graph.initializer:
        if initializer.name == "matrix":
            initializer.CopyFrom(
                numpy_helper.from_array(numpy_helper.to_array(initializer).astype(np.float16), "matrix")
            )
    for end in (*model.graph.input, *model.graph.output):
        end.type.tensor_type.elem_type = TensorProto.FLOAT16
    assert np.allclose(run(model, tmp_path), colours(), atol=0.05)


def test_no_pictures_give_no_answers(tmp_path: Path) -> None:
    assert Suspect(save(colour_net(), tmp_path / "m.onnx")).scores([], 4, SPEC).shape == (0, 4)


# --- No classifier of these classes ---


def test_the_wrong_number_of_classes_is_refused_with_both_numbers(tmp_path: Path) -> None:
    assert "it has 4 classes; the claim has 12 classes" in refusal(colour_net(), tmp_path, classes=12)


@pytest.mark.parametrize(
    ("shape", "kind", "reason"),
    [
        (("n", 3, 64, 64), TensorProto.INT64, "its input 'image' is tensor(int64) [?, 3, 64, 64]; a batch of pictures"),
        (("n", 3, 64), TensorProto.FLOAT, "its input 'image' is tensor(float) [?, 3, 64]; a batch of pictures"),
        (("n", 4, 64, 64), TensorProto.FLOAT, "no three colour channels"),
        (("n", 3, 4, 4), TensorProto.FLOAT, "input sides must be"),
        (("n", 3, 5000, 64), TensorProto.FLOAT, "input sides must be"),
        ((2_000_000_000, 3, 64, 64), TensorProto.FLOAT, "its batch is fixed to 2000000000"),
        (("n", 3, 3, 3), TensorProto.FLOAT, "input sides must be"),
        ((0, 3, 64, 64), TensorProto.FLOAT, "its batch is fixed to 0"),
        ((256, 3, 1024, 1024), TensorProto.FLOAT, "takes 256 pictures at once"),
        (("n", 3, 0, 64), TensorProto.FLOAT, "a side of 0"),
        (("n", 1, 64, "w"), TensorProto.FLOAT, "no three colour channels"),
    ],
)
def test_a_wrong_input_is_refused(tmp_path: Path, shape: Sequence[int | str], kind: int, reason: str) -> None:
    model = make(
        [helper.make_node("Identity", ["image"], ["scores"])], shape=shape, answers=shape, kind=kind, answer_kind=kind
    )
    assert reason in refusal(model, tmp_path)


def test_two_inputs_are_refused_by_their_names(tmp_path: Path) -> None:
    model = colour_net()
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["n"]))
    reason = "it has 2 inputs ('image' is tensor(float) [?, 3, 64, 64], 'mask' is tensor(float) [?]); one for pictures"
    assert reason in refusal(model, tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_answers_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    node = helper.make_node("Constant", [], ["burden"], value_float=value)
    assert "not finite" in refusal(with_extra(node), tmp_path)


def test_a_model_that_the_runtime_cannot_load_is_refused_without_control_characters(tmp_path: Path) -> None:
    reason = refusal(with_extra(helper.make_node("Relu", ["\x1b[31malert"], ["burden"], name="\x07bell")), tmp_path)
    assert "it cannot be run" in reason
    assert reason.isprintable()


# --- Hostile models ---


def big_values(elements: int) -> onnx.ModelProto:
    """Makes a tensor of so many floats when it is run; the file is tiny."""
    return with_extra(
        helper.make_node("ConstantOfShape", ["much"], ["huge"]),
        helper.make_node("ReduceMax", ["huge"], ["burden"], keepdims=0),
        much=np.array([elements], np.int64),
    )


def endless(products: int = 400, side: int = 2000) -> onnx.ModelProto:
    """A chain of large matrix products: minutes of work."""
    nodes = [helper.make_node("ConstantOfShape", ["sides"], ["m0"])]
    nodes += [helper.make_node("MatMul", [f"m{i}", f"m{i}"], [f"m{i + 1}"]) for i in range(products)]
    nodes.append(helper.make_node("ReduceMax", [f"m{products}"], ["burden"], keepdims=0))
    return with_extra(*nodes, sides=np.array([side, side], np.int64))


def test_a_model_that_needs_too_much_memory_is_refused(tmp_path: Path) -> None:
    limits = Limits(memory_bytes=64 * 1024**2)
    assert run(big_values(1_000_000), tmp_path, limits=limits).shape == (9, 4)
    for elements in (100_000_000, 10_000_000_000, 2**61):
        assert "refused" in refusal(big_values(elements), tmp_path, limits=limits)


def test_a_model_that_computes_too_long_is_stopped_by_its_processor_limit(tmp_path: Path) -> None:
    assert "computes longer" in refusal(endless(), tmp_path, limits=Limits(cpu_seconds=2))


def test_a_model_that_takes_too_long_is_stopped_by_the_clock(tmp_path: Path) -> None:
    assert "no result within 1 s" in refusal(endless(), tmp_path, limits=Limits(wall_seconds=1.0))


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen]:
    """The workers that are started during a test. (An emulated program cannot look for them in /proc.)"""
    started: list[subprocess.Popen] = []

    class Noted(subprocess.Popen):
        def __init__(self, *given: object, **named: object) -> None:
            super().__init__(*given, **named)
            started.append(self)

    monkeypatch.setattr("pi_agent.runtime.child.subprocess.Popen", Noted)
    return started


def gone(process: subprocess.Popen) -> bool:
    """It has ended, and somebody has asked for its exit code: no zombie is left."""
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize(
    ("number", "reason"),
    [(signal.SIGSEGV, "signal 11"), (signal.SIGILL, "unknown instruction"), (signal.SIGKILL, "need of memory")],
)
def test_a_child_that_dies_is_a_refused_model_that_says_how(
    tmp_path: Path, workers: list[subprocess.Popen], number: int, reason: str
) -> None:
    def strike() -> None:
        while not workers:
            time.sleep(0.01)
        os.kill(workers[0].pid, number)

    thread = threading.Thread(target=strike, daemon=True)
    thread.start()
    assert reason in refusal(endless(), tmp_path, limits=Limits(wall_seconds=60))
    thread.join()
    assert [gone(worker) for worker in workers] == [True]


def test_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: list[subprocess.Popen]
) -> None:
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    run(colour_net(), tmp_path)
    refusal(colour_net(), tmp_path, classes=5)
    refusal(endless(), tmp_path, limits=Limits(wall_seconds=0.5))

    def interrupted():
        yield PICTURES[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Suspect(tmp_path / "suspect.onnx").scores(interrupted(), 4, SPEC)
    assert list(place.iterdir()) == []
    assert [gone(worker) for worker in workers] == [True] * 4


# --- The worker itself: what it gives up, and how it speaks ---


IMPORT = (
    "import importlib.util, os, sys\n"
    f"spec = importlib.util.spec_from_file_location('worker', {str(WORKER)!r})\n"
    "worker = importlib.util.module_from_spec(spec); spec.loader.exec_module(worker)\n"
)
"""By its path: its folder must not be searched for modules, or our `inspect` would hide Python's."""


ANSWERED = {"answers": [{"type": "float32", "shape": [1, 4]}]}


def talk(model: bytes, folder: Path, program: Sequence[str] = ("-I", str(WORKER))) -> list[dict]:
    """Hold a dialogue of one picture with a worker, without the inspection before it; the headers it answers."""
    job = {"model_bytes": len(model), "memory_bytes": 512 * 1024**2, "cpu_seconds": 20}
    picture = np.zeros((1, 3, 64, 64), "<f4")
    ask = {"type": "<f4", "shape": picture.shape, "outputs": [0]}
    message = json.dumps(job).encode() + b"\n" + model + json.dumps(ask).encode() + b"\n"
    command = [sys.executable, *program]
    done = subprocess.run(command, input=message + picture.tobytes(), capture_output=True, cwd=folder, check=True)
    first, _, rest = done.stdout.partition(b"\n")
    return [json.loads(first), *([json.loads(rest.partition(b"\n")[0])] if rest else [])]


def test_noise_on_stdout_does_not_reach_the_dialogue(tmp_path: Path) -> None:
    noisy = (
        f"{IMPORT}quiet = worker.open_session\n"
        "def noisy(*given): print('{}', flush=True); os.write(1, b'noise'); return quiet(*given)\n"
        "worker.open_session = noisy; worker.main()"
    )
    answers = talk(colour_net().SerializeToString(), tmp_path, ("-I", "-c", noisy))
    assert answers == [
        {
            "inputs": [{"name": "image", "type": "tensor(float)", "shape": [None, 3, 64, 64]}],
            "outputs": [{"name": "scores", "type": "tensor(float)", "shape": [None, 4]}],
        },
        ANSWERED,
    ]


@pytest.mark.parametrize("location", ["secret.bin", "../secret.bin", "/etc/passwd", "absolute"])
def test_even_uninspected_the_runtime_finds_no_external_file(tmp_path: Path, location: str) -> None:
    """The second belt: the model comes as bytes, in an empty folder. (The first refuses external data at all.)"""
    (tmp_path / "secret.bin").write_bytes(np.ones(12, np.float32).tobytes())
    empty = tmp_path / "empty"
    empty.mkdir()
    model = colour_net()
    matrix = next(t for t in model.graph.initializer if t.name == "matrix")
    matrix.ClearField("raw_data")
    matrix.data_location = TensorProto.EXTERNAL
    matrix.external_data.add(key="location", value=location.replace("absolute", str(tmp_path / "secret.bin")))
    assert "it cannot be run" in talk(model.SerializeToString(), empty)[0]["error"]


def test_the_worker_does_not_read_the_runtimes_own_format(tmp_path: Path) -> None:
    disguised = b"\x12\x16abORTM is the producer" + colour_net().SerializeToString()
    assert talk(disguised, tmp_path)[-1] == ANSWERED, "read as plain ONNX"


@pytest.mark.parametrize(
    "forbidden",
    [
        "os.write(os.open('file', os.O_CREAT | os.O_WRONLY), b'x')",
        "bytearray(200_000_000)",
        "[open('/dev/null') for _ in range(40)]",
    ]
    + ([] if os.getuid() == 0 else ["os.fork()"]),  # root is above the limit on processes
)
def test_after_the_limits_there_are_no_files_no_memory_no_processes(tmp_path: Path, forbidden: str) -> None:
    program = (
        f"{IMPORT}worker.limit_resources(100_000_000, 5)\n"
        f"try: {forbidden}\nexcept (OSError, MemoryError) as exc: print('prevented', exc)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stdout.startswith("prevented")


def test_mutated_models_that_pass_the_inspection_answer_or_are_refused(tmp_path: Path) -> None:
    honest, rng, run_at_all = colour_net().SerializeToString(), np.random.default_rng(1), 0
    while run_at_all < 6:
        mutated = bytearray(honest)
        for at in rng.integers(0, len(honest), 2):
            mutated[at] = rng.integers(256)
        try:
            suspect = Suspect(save(bytes(mutated), tmp_path / "mutated.onnx"))
        except RefusedModel:
            continue
        run_at_all += 1
        try:
            assert suspect.scores(PICTURES, 4, SPEC, Limits(cpu_seconds=10)).shape == (9, 4)
        except RefusedModel as exc:
            assert exc.advice
