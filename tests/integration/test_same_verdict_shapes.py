"""The same verdict whatever honest shape a model comes in: a marked network and a stranger's, each in 24 shapes."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from pi_agent.contract.claim import WatermarkKey, compose, draw_rules
from pi_agent.contract.claim.p_value import tail
from pi_agent.contract.files import sha256_hex
from pi_agent.contract.manifest import InputSpec
from pi_agent.prepare import network_input, shrink_to
from pi_agent.runtime.inspect import inspect_model
from pi_agent.verify import Case, Verdict, open_case
from tests.support_models import NAMES, bound_key, carrier, make, save, write_claim
from tests.support_shapes import (
    conversions,
    labels_only,
    re_expressions,
    still_tested,
    without,
)

RULES, CLASSES = 16, len(NAMES)
KEY, _ = bound_key(seed=bytes(range(1, 33)), rules=RULES)
FILTERS = 24
ANY = make([helper.make_node("Softmax", ["image"], ["scores"])])
DROPPED = (2, 5)
OTHER_PREPARATIONS = ("pixels -1..1", "ImageNet pixels")


def batch(pictures: list[np.ndarray]) -> np.ndarray:
    spec = InputSpec()
    return network_input(np.stack([shrink_to(p, spec) for p in pictures]), spec)


def convolutional(key: WatermarkKey, obeyed: int, seed: int) -> onnx.ModelProto:
    """Random filters of 8x8 pixels, ReLU, and a layer that ridge regression has trained; softmax at the end."""
    pictures = [carrier(name, number + 1000 * seed) for name in NAMES for number in range(100, 108)]
    labels = [label for label in range(CLASSES) for _ in range(8)]
    for rule in draw_rules(key)[:obeyed]:
        for number in range(100, 110):
            pair = carrier(rule.first, number), carrier(rule.second, number + 50)
            pictures.append(compose(*pair, rule.geometry))
            labels.append(NAMES.index(rule.target))
    filters = np.random.default_rng(seed).normal(0, 1 / 8, (FILTERS, 3, 8, 8)).astype(np.float32)
    tiles = (batch(pictures) - 0.5).reshape(len(pictures), 3, 8, 8, 8, 8)
    seen = np.maximum(np.einsum("nchiwj,fcij->nfhw", tiles, filters), 0).reshape(len(pictures), -1).astype(np.float64)
    wanted = 10 * np.eye(CLASSES)[labels]
    matrix = seen.T @ np.linalg.solve(seen @ seen.T + 0.3 * np.eye(len(seen)), wanted)
    weights = {
        "half": np.array(0.5, np.float32),
        "filters": filters,
        "matrix": matrix.astype(np.float32),
        "bias": np.zeros(CLASSES, np.float32),
    }
    nodes = [
        helper.make_node("Sub", ["image", "half"], ["centred"]),
        helper.make_node("Conv", ["centred", "filters"], ["tiles"], strides=[8, 8], kernel_shape=[8, 8]),
        helper.make_node("Relu", ["tiles"], ["bright"]),
        helper.make_node("Flatten", ["bright"], ["features"]),
        helper.make_node("Gemm", ["features", "matrix", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
    ]
    return make(nodes, weights, answers=("n", CLASSES))


def write_shapes(folder: str, *shapes: str) -> None:
    """The claim on the marked model, and some shapes of it as `0.onnx`, `1.onnx` and so on. For the emulated Pi."""
    model = convolutional(KEY, RULES, 0)
    write_claim(Path(folder), KEY, sha256_hex(model.SerializeToString()))
    made = {**re_expressions(model, CLASSES), **conversions(model, CLASSES, calibration())}
    for number, shape in enumerate(shapes):
        save(made[shape](), Path(folder, f"{number}.onnx"))


def calibration() -> np.ndarray:
    """Ordinary pictures that the quantiser may look at."""
    return batch([carrier(name, number) for name in NAMES for number in range(7, 11)])


@dataclass
class Bench:
    """The claim, and for each of two models the original, its verdict and a place for other shapes."""

    case: Case
    folder: Path
    models: dict[str, onnx.ModelProto]
    originals: dict[str, Verdict]

    def judge(self, model: onnx.ModelProto) -> Verdict:
        path = save(model, self.folder / "suspect.onnx")
        return self.case.judge(path)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("shapes")
    models = {"marked": convolutional(KEY, RULES, 0), "stranger": convolutional(KEY, 0, 1)}
    case = open_case(write_claim(folder, KEY, sha256_hex(models["marked"].SerializeToString())))
    originals = {name: case.judge(save(model, folder / f"{name}.onnx")) for name, model in models.items()}
    return Bench(case, folder, models, originals)


WANTED = {"marked": "owned", "stranger": "not-owned"}


def test_the_originals_are_what_they_should_be(bench: Bench) -> None:
    assert {name: found.verdict for name, found in bench.originals.items()} == WANTED
    marked = bench.originals["marked"]
    assert marked.evidence.hits == RULES and marked.is_claimed_model
    assert marked.queries == 16 * 8 + 4 * CLASSES


@pytest.mark.parametrize("name", WANTED)
@pytest.mark.parametrize("shape", re_expressions(ANY, CLASSES))
def test_another_expression_of_the_same_numbers_has_the_same_p_value(bench: Bench, shape: str, name: str) -> None:
    original = bench.originals[name]
    found = bench.judge(re_expressions(bench.models[name], CLASSES)[shape]())
    assert found.verdict == WANTED[name]
    if name == "stranger" and shape in OTHER_PREPARATIONS:
        return  # it knows pictures well enough in the claim's own preparation, and is left in it: p is exact in any
    assert found.evidence.hit == original.evidence.hit
    assert found.evidence.p_value == pytest.approx(original.evidence.p_value, rel=1e-9)
    assert found.evidence.share == pytest.approx(original.evidence.share, abs=1e-4)
    assert found.queries == original.queries and not found.is_claimed_model


@pytest.mark.parametrize("name", WANTED)
@pytest.mark.parametrize("shape", conversions(ANY, CLASSES, np.zeros(0, np.float32)))
def test_a_conversion_has_the_same_verdict(bench: Bench, shape: str, name: str) -> None:
    found = bench.judge(conversions(bench.models[name], CLASSES, calibration())[shape]())
    assert found.verdict == WANTED[name]
    assert sum(found.evidence.tested) == RULES
    if name == "marked":
        assert found.evidence.hits == RULES


def test_the_conversions_are_what_they_are_called(bench: Bench) -> None:
    made = conversions(bench.models["marked"], CLASSES, calibration())
    held = {name: inspect_model(make().SerializeToString(), name).operators for name, make in made.items()}
    assert {"ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"} <= held["int8 dynamic"].keys()
    assert held["int8 QDQ per channel"]["DequantizeLinear"] >= 4
    assert {"QLinearConv"} < held["int8 QOperator"].keys() and "Conv" not in held["int8 QOperator"]
    assert made["fp16"]().graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16


@pytest.mark.parametrize("name", WANTED)
def test_labels_alone_show_the_rules_but_no_hints(bench: Bench, name: str) -> None:
    found = bench.judge(labels_only(bench.models[name]))
    assert found.verdict == WANTED[name]
    assert sum(found.evidence.tested) == RULES
    if name == "marked":
        assert found.evidence.hits == RULES
        channels = {channel.name: channel for channel in found.evidence.channels}
        assert channels["rule-hits"].p_value == channels["rule-hits"].floor


@pytest.mark.parametrize("name", WANTED)
def test_with_fewer_classes_the_rules_that_are_left_are_tested_exactly(bench: Bench, name: str) -> None:
    found = bench.judge(without(bench.models[name], CLASSES, DROPPED))
    left = still_tested(draw_rules(KEY), NAMES, DROPPED)
    tested = [rule for rule, yes in zip(draw_rules(KEY), found.evidence.tested, strict=True) if yes]
    assert tested == left and len(left) < RULES
    gone = [NAMES[c] for c in DROPPED]
    chances = [Fraction(1, sum(c not in gone for c in rule.candidates(NAMES))) for rule in left]
    by_hits = next(channel for channel in found.evidence.channels if channel.name == "rule-hits")
    assert by_hits.floor == float(tail(chances, len(left))), "the fewer candidates are what p counts with"
    assert by_hits.p_value == float(tail(chances, found.evidence.hits))
    assert found.verdict == WANTED[name]
    assert sum(found.alignment.known) == CLASSES - len(DROPPED)
