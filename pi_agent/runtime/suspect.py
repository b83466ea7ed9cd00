"""Run an untrusted ONNX model on pictures: inspected first, then in a limited child process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from pi_agent.contract.errors import RefusedInput, RefusedModel
from pi_agent.contract.files import read_limited, sha256_hex
from pi_agent.contract.manifest import InputSpec
from pi_agent.contract.strict import Mismatch, as_mapping, build
from pi_agent.prepare import network_input, shrink_to
from pi_agent.runtime.inspect import MAX_MODEL_BYTES, inspect_model

BATCH_FLOATS = 1 << 20
"""Pictures go in batches of about four megabytes, so that large inputs need no more memory than small ones."""
MAX_BATCH_FLOATS = 1 << 24
MAX_LINE = 64 * 1024
WORKER = Path(__file__).with_name("worker.py")
_RUN = "it was run in a closed process only"
_DEATHS: dict[int, tuple[str, str]] = {
    signal.SIGXCPU: ("it computes longer than a suspect may", "it was stopped"),
    signal.SIGKILL: ("the system killed it, most likely for its need of memory", "try on a machine with more memory"),
    signal.SIGILL: ("the runtime met an unknown instruction", "this ONNX Runtime is not made for this processor"),
}


@dataclass(frozen=True)
class Limits:
    """What a suspect may use: memory beyond the runtime's own and four times the file, processor and wall time."""

    memory_bytes: int = 512 * 1024**2
    cpu_seconds: int = 120
    wall_seconds: float = 180.0


class Suspect:
    """A model file from a stranger. `sha256` is that of exactly the bytes that will be run."""

    def __init__(self, path: Path) -> None:
        """Read and inspect. Raises `RefusedModel` (65); nothing of the file has been run then."""
        if path.is_dir():
            raise RefusedModel(path=path, reason="it is a folder", hint="give the .onnx file in it")
        try:
            self._data = read_limited(path, MAX_MODEL_BYTES)
        except RefusedInput as exc:
            raise RefusedModel(path=path, reason=exc.fields["reason"], hint=exc.advice) from exc
        if path.lstat().st_nlink > 1:
            raise RefusedModel(path=path, reason="the file has several names (hard links)", hint="copy it first")
        self.path, self.sha256 = path, sha256_hex(self._data)
        self.contents = inspect_model(self._data, str(path))

    def scores(
        self,
        pictures: Iterable[npt.NDArray[np.uint8]],
        classes: int,
        spec: InputSpec,
        limits: Limits | None = None,
    ) -> npt.NDArray[np.float32]:
        """Its answers, float32 (n, classes), to uint8 pictures (height, width, 3), prepared as `spec` says.

        The model's own input decides layout and size where it is fixed. Pictures are taken one batch at a time. Raises
        `RefusedModel` (65) when it crashes, takes too long, needs too much memory or is no classifier of so many
        classes.
        """
        limits = limits or Limits()
        memory = limits.memory_bytes + 4 * len(self._data)
        job = {"model_bytes": len(self._data), "memory_bytes": memory, "cpu_seconds": limits.cpu_seconds}
        parts = [np.empty((0, classes), np.float32)]
        with _Child(self.path, limits.wall_seconds) as child:
            own, fixed = _input(child.ask(job, self._data), spec, self.path)
            step = fixed or max(1, min(32, BATCH_FLOATS // (3 * own.size[0] * own.size[1])))
            source = (shrink_to(picture, own) for picture in pictures)
            while chunk := list(islice(source, step)):
                padding = [chunk[-1]] * (fixed - len(chunk)) if fixed else []
                batch = network_input(np.stack(chunk + padding), own)
                parts.append(child.scores(batch, classes)[: len(chunk)])
        scores = np.concatenate(parts)
        if not np.isfinite(scores).all():
            raise RefusedModel(path=self.path, reason="its answers are not finite numbers", hint=_RUN)
        return scores


def _input(answer: dict[str, Any], spec: InputSpec, path: Path) -> tuple[InputSpec, int]:
    """`spec` with the model's own size and layout, and its batch size if it is fixed, else 0. Raises `RefusedModel`."""
    shape, kind = answer.get("input"), answer.get("type")
    if kind not in ("tensor(float)", "tensor(float16)") or not isinstance(shape, list) or len(shape) != 4:
        reason = f"its input is {kind} {shape}; a batch of float pictures is expected"
        raise RefusedModel(path=path, reason=_clean(reason), hint=_RUN)
    batch, a, b, c = (side if isinstance(side, int) else None for side in shape)
    if 3 not in (a, c):
        raise RefusedModel(path=path, reason=_clean(f"its input {shape} has no three colour channels"), hint=_RUN)
    layout, sides = ("NCHW", (b, c)) if a == 3 else ("NHWC", (a, b))
    size = [own or usual for own, usual in zip(sides, spec.size, strict=True)]
    try:
        own = build(InputSpec, {**as_mapping(spec), "size": size, "layout": layout})
    except Mismatch as exc:
        raise RefusedModel(path=path, reason=f"its input {shape}: {exc}", hint=_RUN) from exc
    if batch is not None and not 1 <= batch <= MAX_BATCH_FLOATS // (3 * size[0] * size[1]):
        raise RefusedModel(path=path, reason=f"its batch of {batch} is fixed; one or any number is expected", hint=_RUN)
    return own, batch or 0


class _Child:
    """One worker process in an empty folder; whatever goes wrong with it is a `RefusedModel`."""

    def __init__(self, path: Path, wall_seconds: float) -> None:
        self._path, self._wall_seconds, self._late = path, wall_seconds, False
        self._folder = tempfile.TemporaryDirectory(prefix="suspect-")
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._folder.name,
            env={"MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
            start_new_session=True,
        )
        assert self._process.stdin and self._process.stdout
        self._to, self._from = self._process.stdin, self._process.stdout
        self._watchdog = threading.Timer(wall_seconds, self._stop)
        self._watchdog.daemon = True

    def __enter__(self) -> _Child:
        self._watchdog.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        self._watchdog.cancel()
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    def _stop(self) -> None:
        self._late = True
        self._process.kill()

    def ask(self, header: dict[str, Any], body: bytes | memoryview) -> dict[str, Any]:
        """Send one message and return the header of the answer. Raises `RefusedModel`."""
        try:
            self._to.write(json.dumps(header).encode() + b"\n")
            self._to.write(body)
            self._to.flush()
        except BrokenPipeError:
            pass  # it has gone, perhaps not without a last word
        try:
            answer = json.loads(self._from.readline(MAX_LINE))
            problem = answer.get("error")
        except (ValueError, AttributeError, RecursionError) as exc:
            raise self._died() from exc
        if problem is not None:
            raise RefusedModel(path=self._path, reason=_clean(str(problem)), hint=_RUN)
        return dict(answer)

    def scores(self, batch: npt.NDArray[np.float32], classes: int) -> npt.NDArray[np.float32]:
        """The answers, float32 (n, classes), to a batch that is ready for the network. Raises `RefusedModel`."""
        shape = self.ask({"shape": list(batch.shape)}, batch.astype("<f4", copy=False).data.cast("B")).get("shape")
        if shape != [len(batch), classes]:
            reason = f"it answers {shape} to {len(batch)} pictures; the claim has {classes} classes"
            raise RefusedModel(path=self._path, reason=_clean(reason), hint="is the claim about such a model?")
        body = self._from.read(len(batch) * classes * 4)
        if len(body) != len(batch) * classes * 4:
            raise self._died()
        return np.frombuffer(body, dtype="<f4").reshape(len(batch), classes)

    def _died(self) -> RefusedModel:
        """Why there was no proper answer."""
        try:
            code = self._process.wait(1)
        except subprocess.TimeoutExpired:
            code = 0  # it lives and talks nonsense
        if self._late:
            reason, hint = f"no result within {self._wall_seconds:g} s", "it was stopped"
        elif code < 0:
            died = f"the process that ran it died (signal {-code})"
            reason, hint = _DEATHS.get(-code, (died, "the file is damaged or malicious"))
        else:
            reason = f"the process that ran it gave no proper answer (exit code {code})"
            hint = "is ONNX Runtime usable here? try: python -c 'import onnxruntime'"
        return RefusedModel(path=self._path, reason=reason, hint=hint)


def _clean(text: str) -> str:
    """Text from a stranger, short and without control characters: it ends on a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text[:400])
