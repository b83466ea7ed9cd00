"""Export a network with its softmax to ONNX, weights inside, and check it against torch."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import nn

from pi_agent.contract.manifest import InputSpec
from training_host.errors import ParityError

ALLOWED_DIFFERENCE = 1e-4
_FILE = "model.onnx"


class _WithSoftmax(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.net(image), dim=1)


def to_onnx(model: nn.Module, spec: InputSpec, opset: int = 18) -> bytes:
    """The ONNX file as bytes: input `image` float32 (n, 3, height, width), output `scores` float32 (n, classes).

    Raises `ParityError` when ONNX Runtime's scores differ from torch's by more than 1e-4 on random pictures.
    """
    net = _WithSoftmax(model).eval()
    example = torch.rand(2, 3, *spec.size, generator=torch.Generator().manual_seed(0))
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        program = torch.onnx.export(
            net,
            (example,),
            dynamo=True,
            opset_version=opset,
            input_names=["image"],
            output_names=["scores"],
            dynamic_shapes={"image": {0: torch.export.Dim("n", min=1, max=4096)}},
            external_data=False,
            verbose=False,
        )
        assert program is not None
        program.save(f"{folder}/{_FILE}", external_data=False)
        data = Path(folder, _FILE).read_bytes()
    check_parity(net, data, spec)
    return data


def check_parity(net: nn.Module, data: bytes, spec: InputSpec) -> float:
    """Largest difference of any score on 16 random pictures. Raises `ParityError`."""
    pictures = torch.rand(16, 3, *spec.size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = net(pictures).numpy()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: pictures.numpy()})[0]
    difference = float(np.abs(found - expected).max())
    if not difference <= ALLOWED_DIFFERENCE:
        raise ParityError(difference=difference, allowed=ALLOWED_DIFFERENCE)
    return difference


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns and logs about optional packages that we do not use."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
