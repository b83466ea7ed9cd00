"""What stands beside every model file: how to feed it, what it says, where it comes from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pi_agent.contract.errors import RefusedModel
from pi_agent.contract.files import read_json, write_json
from pi_agent.contract.strict import Mismatch, as_mapping, build

FILE_NAME = "manifest.json"
RESIZE_FILTERS = ("area", "bilinear", "bicubic", "lanczos", "linear", "nearest", "nearest-centre")
"""OpenCV's area; Pillow's bilinear, bicubic (its default) and Lanczos, antialiased; bilinear of OpenCV and TensorFlow,
not antialiased: linear; the nearest neighbour of OpenCV, top left, and of Pillow and TensorFlow, in the middle."""
OUTPUT_KINDS = ("scores", "logits", "embedding")


@dataclass(frozen=True)
class InputSpec:
    """How 300x300 RGB uint8 becomes the network's input: resize, multiply by `scale`, subtract `mean`, divide by `std`.

    `size` is (height, width); `layout` NCHW or NHWC; `mean` and `std` per RGB channel, after scaling.
    """

    size: tuple[int, int] = (64, 64)
    resize: str = "area"
    layout: str = "NCHW"
    scale: float = 1 / 255
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if self.resize not in RESIZE_FILTERS:
            raise ValueError(f"resize must be one of {', '.join(RESIZE_FILTERS)}")
        if self.layout not in ("NCHW", "NHWC"):
            raise ValueError("layout must be NCHW or NHWC")
        if not all(8 <= side <= 1024 for side in self.size):
            raise ValueError("input sides must be 8 to 1024 pixels")
        if not all(s > 0 for s in self.std):
            raise ValueError("std must be positive")


@dataclass(frozen=True)
class Manifest:
    """The model folder's `manifest.json`. `metrics` and `provenance` are free tables of figures and facts."""

    name: str
    arch: str
    classes: tuple[str, ...]
    onnx_sha256: str
    input: InputSpec = field(default_factory=InputSpec)
    output: str = "scores"
    opset: int = 18
    width: int = 64
    weights_sha256: str = ""
    licence: str = "MIT"
    schema: str = "model/1"
    provenance: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.schema != "model/1":
            raise ValueError(f"manifest schema {self.schema!r} is not known; this version reads model/1")
        if self.output not in OUTPUT_KINDS:
            raise ValueError(f"output must be one of {', '.join(OUTPUT_KINDS)}")
        if len(set(self.classes)) != len(self.classes) or len(self.classes) < 2:
            raise ValueError("at least two distinct class names are needed")


def load_manifest(folder: Path) -> Manifest:
    """Read `folder/manifest.json`. Raises `RefusedModel` (65) with the offending key."""
    path = folder / FILE_NAME
    if not path.is_file():
        raise RefusedModel(path=folder, reason=f"no {FILE_NAME} in it", hint="give a folder that train-host wrote")
    try:
        return build(Manifest, read_json(path))
    except Mismatch as exc:
        raise RefusedModel(
            path=path, reason=str(exc), hint="the manifest was edited or is from another version"
        ) from exc


def save_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `folder/manifest.json` atomically."""
    write_json(folder / FILE_NAME, as_mapping(manifest))
