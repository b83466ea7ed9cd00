"""Models as ONNX Runtime's own quantiser writes them are honest suspects: inspected, accepted and run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from pi_agent.contract.manifest import InputSpec
from pi_agent.prepare import network_input, shrink_to
from pi_agent.runtime.inspect import inspect_model
from pi_agent.runtime.suspect import Suspect
from tests.support_models import make, save

PICTURES = np.random.default_rng(0).integers(0, 256, (12, 300, 300, 3), dtype=np.uint8)
FORMS = {
    "float": set(),
    "operators": {"QLinearConv", "QLinearAdd", "QLinearMul", "QLinearConcat", "QLinearLeakyRelu", "QLinearSigmoid"}
    | {"QLinearAveragePool", "QLinearGlobalAveragePool", "QGemm", "QLinearSoftmax", "QLinearMatMul"},
    "operators-per-channel": {"QLinearConv", "QGemm"},
    "pairs": {"QuantizeLinear", "DequantizeLinear"},
    "pairs-per-channel": {"QuantizeLinear", "DequantizeLinear"},
    "pairs-of-16-bits": {"QuantizeLinear", "DequantizeLinear"},
    "dynamic": {"DynamicQuantizeLinear", "MatMulInteger", "ConvInteger"},
}


def convolutional() -> onnx.ModelProto:
    """A small network with every kind of layer that the quantiser has an operator for."""
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.3, shape).astype(np.float32)

    node = helper.make_node
    nodes = [
        node("Conv", ["image", "w1", "b1"], ["c1"], strides=[2, 2]),
        node("Relu", ["c1"], ["r1"]),
        node("MaxPool", ["r1"], ["m1"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["m1", "w2"], ["c2"], pads=[1] * 4),
        node("LeakyRelu", ["c2"], ["l2"]),
        node("Sigmoid", ["m1"], ["s2"]),
        node("Add", ["l2", "s2"], ["a2"]),
        node("Mul", ["a2", "s2"], ["p2"]),
        node("Concat", ["p2", "m1"], ["k"], axis=1),
        node("AveragePool", ["k"], ["v"], kernel_shape=[3, 3]),
        node("GlobalAveragePool", ["v"], ["g"]),
        node("Flatten", ["g"], ["f"]),
        node("MatMul", ["f", "w3"], ["h"]),
        node("Gemm", ["h", "w4", "b4"], ["logits"]),
        node("Softmax", ["logits"], ["scores"]),
    ]
    given = {"w1": weights(8, 3, 3, 3), "b1": weights(8), "w2": weights(8, 8, 3, 3)}
    return make(nodes, {**given, "w3": weights(16, 10), "w4": weights(10, 4), "b4": weights(4)}, answers=("n", 4))


class Calibration(CalibrationDataReader):
    """The pictures, once."""

    def __init__(self) -> None:
        spec = InputSpec()
        batch = network_input(np.stack([shrink_to(picture, spec) for picture in PICTURES]), spec)
        self._batches = iter([{"image": batch}])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def quantised(form: str, folder: Path) -> bytes:
    """The network in one of `FORMS`."""
    source, target = save(convolutional(), folder / "float.onnx"), folder / f"{form}.onnx"
    if form == "float":
        return source.read_bytes()
    if form == "dynamic":
        quantize_dynamic(source, target, weight_type=QuantType.QUInt8)
    else:
        kind = QuantFormat.QOperator if form.startswith("operators") else QuantFormat.QDQ
        types = QuantType.QInt8 if form.endswith("per-channel") else QuantType.QUInt8
        wide = {"activation_type": QuantType.QUInt16} if form.endswith("16-bits") else {"activation_type": types}
        channels = form.endswith("per-channel")
        quantize_static(
            source, target, Calibration(), quant_format=kind, per_channel=channels, weight_type=types, **wide
        )
    return target.read_bytes()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    path = save(convolutional(), tmp_path_factory.mktemp("float") / "float.onnx")
    return Suspect(path).scores(PICTURES, 4, InputSpec())


@pytest.mark.parametrize("form", FORMS)
def test_every_quantised_form_is_accepted_and_answers_nearly_the_same(
    form: str, tmp_path: Path, expected: np.ndarray
) -> None:
    data = quantised(form, tmp_path)
    assert inspect_model(data, form).operators.keys() >= FORMS[form]
    scores = Suspect(save(data, tmp_path / "suspect.onnx")).scores(PICTURES, 4, InputSpec())
    assert scores.shape == (12, 4)
    assert np.abs(scores - expected).max() < 0.1
