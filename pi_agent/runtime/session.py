"""Ask a running suspect: which output answers is found out once, then pictures go in and checked answers come out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from pi_agent.contract.errors import RefusedModel
from pi_agent.contract.manifest import InputSpec
from pi_agent.prepare import shrink_to
from pi_agent.runtime import shapes
from pi_agent.runtime.child import RAN, Child, clean
from pi_agent.runtime.shapes import WrongShape

Answers = npt.NDArray[np.float32] | npt.NDArray[np.int64]


class NotFinite(RefusedModel):
    """{path}: model refused: {reason}"""


class Run:
    """A suspect that is running. Made by `Suspect.running`."""

    def __init__(self, path: Path, child: Child) -> None:
        self._path, self._child = path, child
        self._output: int | None = None
        self._classes: int | None = None

    @cached_property
    def reads(self) -> shapes.Reads:
        """How it wants its pictures. Waits until it is loaded. Raises `RefusedModel` (65)."""
        with self._refusing():
            return shapes.how_it_reads(self._declared.inputs)

    def answers(self, pictures: Iterable[npt.NDArray[np.uint8]], spec: InputSpec) -> Answers:
        """Its answers to uint8 pictures (height, width, 3), prepared as `spec` says and taken one batch at a time.

        float32 (n, k), all finite, 2 <= k <= 4096; or int64 (n,), 0 to 4095, where it tells class numbers only. No
        pictures give float32 (0, 0). Layout and size are the model's own where it fixes them. Raises `RefusedModel`
        (65) when it crashes, takes too long, needs too much memory or is no classifier of pictures. Only after
        `NotFinite`, a `RefusedModel` too, it may be asked again: half floats overflow if they are prepared wrongly.
        """
        parts: list[Answers] = []
        with self._refusing():
            own = self.reads.fit(spec)
            source = (shrink_to(picture, own) for picture in pictures)
            while chunk := list(islice(source, self.reads.step(own))):
                parts.append(self._answer(self.reads.make(chunk, own))[: len(chunk)])
        return cast(Answers, np.concatenate(parts)) if parts else np.empty((0, 0), np.float32)

    @cached_property
    def _declared(self) -> shapes.Declared:
        return self._child.hear(shapes.Declared)

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except WrongShape as exc:
            raise RefusedModel(path=self._path, reason=clean(str(exc)), hint=RAN) from exc

    def _answer(self, batch: npt.NDArray[Any]) -> Answers:
        """The answer to a batch that is ready for the network. Raises `RefusedModel` or `WrongShape`."""
        if self._output is None:
            self._output = self._choose(batch)
        name, found, count = self._declared.outputs[self._output].name, self._ask(batch, [self._output])[0], len(batch)
        form = found.form(count)
        if form is None or self._classes not in (None, found.classes):
            raise WrongShape(f"its output {name!r} is {found} for {count} pictures; {shapes.EXPECTED}")
        self._classes = found.classes
        # Its length is bounded before it is read: at most 256 pictures and 4096 classes.
        wire = np.dtype("<f4" if found.type in shapes.FLOATS.values() else "<i8")
        raw = np.frombuffer(self._child.body(count * found.classes * wire.itemsize), wire)
        if form == "labels":
            if raw.min() < 0 or raw.max() >= shapes.MAX_CLASSES:
                raise WrongShape(f"its output {name!r} holds class numbers beyond 0..{shapes.MAX_CLASSES - 1}")
            return raw.astype(np.int64)
        if not np.isfinite(raw).all():
            reason = clean(f"its output {name!r} holds answers that are not finite numbers")
            raise NotFinite(path=self._path, reason=reason, hint=RAN)
        return raw.reshape(count, found.classes).astype(np.float32)

    def _choose(self, batch: npt.NDArray[Any]) -> int:
        """The number of the output that answers; where several may, a first batch shows which."""
        outputs = self._declared.outputs
        able = shapes.may_answer(outputs)
        if len(able) == 1:
            return able[0]
        return able[shapes.which_answers([outputs[i] for i in able], self._ask(batch, able), len(batch))]

    def _ask(self, batch: npt.NDArray[Any], outputs: Sequence[int]) -> tuple[shapes.Found, ...]:
        header = {"type": batch.dtype.str, "shape": list(batch.shape), "outputs": list(outputs)}
        self._child.tell(header, batch.data.cast("B"))
        found = self._child.hear(shapes.Answers).answers
        if len(found) != len(outputs):
            raise self._child.died()
        return found
