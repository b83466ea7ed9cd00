"""Eight-bit ONNX files: what a thief ships anyway, and what takes small differences away.

Dynamic: weights are eight-bit, activations at run time. Static: QDQ per channel, as `train-host export --int8` writes.
"""

from __future__ import annotations

import copy
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process

from pi_agent.contract.manifest import InputSpec
from pi_agent.prepare import network_input
from training_host.export.onnx import to_onnx
from training_host.export.quantize import to_int8
from training_host.removal.base import MODIFICATION, Stolen, Thief

_BATCH = 256


@dataclass(frozen=True)
class Quantise:
    """`form` "dynamic" or "static" int8; the latter is calibrated on `calibration` of the thief's pictures.

    Raises `ValueError` for another form.
    """

    form: str = "static"
    calibration: int = 128

    def __post_init__(self) -> None:
        if self.form not in ("dynamic", "static"):
            raise ValueError(f"form is dynamic or static, not {self.form!r}")

    @property
    def kind(self) -> str:
        """`MODIFICATION`."""
        return MODIFICATION

    def steal(self, thief: Thief) -> Stolen:
        """The answers of ONNX Runtime on the quantised file; there is no torch network any more.

        Raises `ParityError` where the export fails.
        """
        images = thief.pictures.images
        height, width = images.shape[1:3]
        spec = InputSpec(size=(int(height), int(width)))
        exported = to_onnx(copy.deepcopy(thief.network).to("cpu").eval(), spec)
        if self.form == "static":
            data = to_int8(exported, images[thief.rng().permutation(len(images))[: self.calibration]], spec)
        else:
            data = _dynamic(exported)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1  # the same sums in the same order, whatever else the machine does
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])

        def scores_of(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            parts = [
                session.run(None, {"image": network_input(images[start : start + _BATCH], spec)})[0]
                for start in range(0, len(images), _BATCH)
            ]
            return np.concatenate(parts).astype(np.float32)

        return Stolen(scores_of)


def _dynamic(file: bytes) -> bytes:
    logging.getLogger().disabled = True  # the quantiser advises on the root logger
    try:
        with tempfile.TemporaryDirectory() as folder:
            source, ready, result = (Path(folder) / name for name in ("float.onnx", "ready.onnx", "int8.onnx"))
            source.write_bytes(file)
            quant_pre_process(str(source), str(ready), skip_symbolic_shape=True, skip_onnx_shape=True)
            model = onnx.load(ready)
            del model.graph.value_info[:]  # the quantiser transposes dense layers and stumbles over their old shapes
            onnx.save(model, ready)
            # Unsigned: ONNX Runtime has no convolution with signed eight-bit weights on every processor.
            quantize_dynamic(str(ready), str(result), weight_type=QuantType.QUInt8)
            return result.read_bytes()
    finally:
        logging.getLogger().disabled = False
