"""What a stranger's classifier may look like from outside: how it reads pictures, and which of its outputs answers.

All of it comes from the child, so nothing is believed: whatever is no honest shape is a reason to refuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pi_agent.contract.manifest import InputSpec
from pi_agent.prepare import network_input

MAX_CLASSES = 4096
MAX_BATCH = 256
MAX_OUTPUTS = 8
MIN_SIDE = 8
MAX_BATCH_NUMBERS = 1 << 23
BATCH_NUMBERS = 1 << 16
"""Pictures go in small batches, five of 64x64: larger ones are no faster, and take memory in every layer."""
FLOATS = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}
WHOLE = {"tensor(uint8)": "uint8", "tensor(int8)": "int8"}
INPUTS = {**FLOATS, **WHOLE}
SCORES = {**FLOATS, **WHOLE}
LABELS = {"tensor(int32)": "int32", "tensor(int64)": "int64"}

EXPECTED = "one row of scores or one class number for each is expected"


class WrongShape(ValueError):
    """No honest classifier of pictures; the text is the reason."""


@dataclass(frozen=True)
class End:
    """An input or an output as the model declares it; free dimensions are None."""

    name: str
    type: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        sides = ", ".join("?" if side is None else str(side) for side in self.shape)
        return f"{self.name!r} is {self.type} [{sides}]"


@dataclass(frozen=True)
class Declared:
    """The child's first word."""

    inputs: tuple[End, ...]
    outputs: tuple[End, ...]


@dataclass(frozen=True)
class Found:
    """An output as it turned out to be; the type is None where it is no tensor of numbers."""

    type: str | None
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.type or 'no numbers'} {list(self.shape)}"

    def form(self, pictures: int) -> str | None:
        """`scores` (one row for each picture), `labels` (one class number), or None. Dimensions of one do not count."""
        if not self.shape or self.shape[0] != pictures:
            return None
        rest = [side for side in self.shape[1:] if side != 1]
        if self.type in SCORES.values() and len(rest) == 1 and 2 <= rest[0] <= MAX_CLASSES:
            return "scores"
        return "labels" if self.type in LABELS.values() and not rest else None

    @property
    def classes(self) -> int:
        """How many numbers stand in a row of scores."""
        return max(self.shape[1:], default=1)


@dataclass(frozen=True)
class Answers:
    """The child's word on a batch."""

    answers: tuple[Found, ...]


@dataclass(frozen=True)
class Reads:
    """How a model wants its pictures.

    `dtype`: float32, float16 or float64 (prepared as the specification says), uint8 (pixels 0..255) or int8 (pixel
    minus 128), both without scale, mean and std. `layout`: NCHW or NHWC, None where the model leaves it open.
    `sides`: height and width, None where free. `batch`: the fixed number of pictures, 0 for any.
    """

    name: str
    dtype: str
    layout: str | None
    sides: tuple[int | None, int | None]
    batch: int

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) if both are fixed, None where the specification decides."""
        height, width = self.sides
        return None if height is None or width is None else (height, width)

    def fit(self, spec: InputSpec) -> InputSpec:
        """`spec` with what the model fixes itself. Raises `WrongShape` where no picture fits."""
        height, width = (own or usual for own, usual in zip(self.sides, spec.size, strict=True))
        try:
            own = replace(spec, size=(height, width), layout=self.layout or spec.layout)
        except ValueError as exc:
            raise WrongShape(f"its input {self.name!r}: {exc}") from exc
        if self.batch * 3 * height * width > MAX_BATCH_NUMBERS:
            raise WrongShape(f"its input {self.name!r} takes {self.batch} pictures at once; that is too much memory")
        return own

    def step(self, own: InputSpec) -> int:
        """How many pictures go into a batch."""
        return self.batch or max(1, min(32, BATCH_NUMBERS // (3 * own.size[0] * own.size[1])))

    def make(self, pictures: Sequence[npt.NDArray[np.uint8]], own: InputSpec) -> npt.NDArray[Any]:
        """Shrunk pictures as a batch for the network, little-endian; a fixed batch is filled up with the last one."""
        pixels = np.stack([*pictures, *[pictures[-1]] * (self.batch - len(pictures))])
        wire = np.dtype(self.dtype).newbyteorder("<")
        if wire.kind == "f":
            return network_input(pixels, own).astype(wire, copy=False)
        turned = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)) if own.layout == "NCHW" else pixels
        return turned if self.dtype == "uint8" else (turned ^ 0x80).view(np.int8)  # minus 128: only the top bit differs


def how_it_reads(inputs: Sequence[End]) -> Reads:
    """What the one input asks for. Raises `WrongShape` if it is none of a classifier of pictures."""
    if len(inputs) != 1:
        raise WrongShape(f"it has {_several(inputs, 'input')}; one for pictures is expected")
    what, shape = f"its input {inputs[0]}", inputs[0].shape
    if inputs[0].type not in INPUTS or len(shape) != 4:
        raise WrongShape(f"{what}; a batch of pictures is expected: four dimensions of floats, uint8 or int8")
    batch, a, b, c = shape
    if batch is not None and not 1 <= batch <= MAX_BATCH:
        raise WrongShape(f"{what}: its batch is fixed to {batch}; 1 to {MAX_BATCH} or any number is expected")
    layout: str | None = None
    sides: tuple[int | None, int | None] = (None, None)
    # Three channels at one end decide. A free channel is believed where the other end is fixed like a side; where both
    # ends are free, nothing is known and the caller's specification decides.
    if a == 3 or (a is None and c is not None and c >= MIN_SIDE):
        layout, sides = "NCHW", (b, c)
    elif c == 3 or (c is None and a is not None and a >= MIN_SIDE):
        layout, sides = "NHWC", (a, b)
    elif a is not None or c is not None:
        raise WrongShape(f"{what}: it has no three colour channels")
    for side in sides:
        if side is not None and side < 1:
            raise WrongShape(f"{what}: a side of {side} holds no picture")
    return Reads(inputs[0].name, INPUTS[inputs[0].type], layout, sides, batch or 0)


def may_answer(outputs: Sequence[End]) -> list[int]:
    """The numbers of the outputs whose type can be an answer. Raises `WrongShape` if there is none."""
    if len(outputs) > MAX_OUTPUTS:
        raise WrongShape(f"it has more than {MAX_OUTPUTS} outputs")
    found = [number for number, end in enumerate(outputs) if end.type in SCORES or end.type in LABELS]
    if not found:
        raise WrongShape(f"it has {_several(outputs, 'output')}; {EXPECTED}")
    return found


def which_answers(outputs: Sequence[End], found: Sequence[Found], pictures: int) -> int:
    """Which of several outputs is the answer, as they turned out to be; scores beat class numbers.

    Raises `WrongShape` with their names if there are several, or none.
    """
    for form in ("scores", "labels"):
        able = [i for i, what in enumerate(found) if what.form(pictures) == form]
        if len(able) == 1:
            return able[0]
        if able:
            names = ", ".join(f"{outputs[i].name!r} {found[i]}" for i in able)
            raise WrongShape(f"several of its outputs may be the answer: {names}; one is expected")
    names = ", ".join(f"{end.name!r} {what}" for end, what in zip(outputs, found, strict=True))
    raise WrongShape(f"none of its outputs is an answer to {pictures} pictures: {names}; {EXPECTED}")


def _several(ends: Sequence[End], word: str) -> str:
    names = ", ".join(str(end) for end in ends[:MAX_OUTPUTS])
    return f"{len(ends)} {word}{'' if len(ends) == 1 else 's'}" + (f" ({names})" if names else "")
