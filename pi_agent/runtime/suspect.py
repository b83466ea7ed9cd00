"""Run an untrusted ONNX model on pictures: inspected first, then in a limited child process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pi_agent.contract.errors import RefusedInput, RefusedModel
from pi_agent.contract.files import read_limited, sha256_hex
from pi_agent.contract.manifest import InputSpec
from pi_agent.runtime.child import Child
from pi_agent.runtime.inspect import MAX_MODEL_BYTES, inspect_model
from pi_agent.runtime.session import Run

__all__ = ["Limits", "Run", "Suspect"]


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
        self.path = path
        data = _read(path)
        self.sha256, self.contents = sha256_hex(data), inspect_model(data, str(path))
        self._data: bytes | None = data

    @contextmanager
    def running(self, limits: Limits | None = None) -> Iterator[Run]:
        """One limited child process with the model in it, for as many questions as there are.

        The child loads the model while the caller goes on, so a model that cannot be loaded raises `RefusedModel` (65)
        where the `Run` is first asked something. Also raises it if the file has changed since it was inspected.
        """
        limits = limits or Limits()
        data, self._data = self._data or self._again(), None
        memory = limits.memory_bytes + 4 * len(data)
        with Child(self.path, limits.wall_seconds) as child:
            job = {"model_bytes": len(data), "memory_bytes": memory, "cpu_seconds": limits.cpu_seconds}
            child.tell(job, data)
            del data  # the child has it; twice is too much for a small machine
            yield Run(self.path, child)

    def _again(self) -> bytes:
        data = _read(self.path)
        if sha256_hex(data) != self.sha256:
            raise RefusedModel(path=self.path, reason="the file has changed since it was inspected", hint="try again")
        return data

    def scores(
        self,
        pictures: Iterable[npt.NDArray[np.uint8]],
        classes: int,
        spec: InputSpec,
        limits: Limits | None = None,
    ) -> npt.NDArray[np.float32]:
        """Its answers, float32 (n, classes), to pictures as `Run.answers` takes them.

        Raises `RefusedModel` (65) also if it is no classifier of so many classes, or tells class numbers only.
        """
        with self.running(limits) as run:
            raw = run.answers(pictures, spec)
        if len(raw) and (raw.ndim == 1 or raw.shape[1] != classes):
            has = "it tells class numbers only" if raw.ndim == 1 else f"it has {raw.shape[1]} classes"
            reason = f"{has}; the claim has {classes} classes"
            raise RefusedModel(path=self.path, reason=reason, hint="is the claim about such a model?")
        return raw.reshape(len(raw), classes).astype(np.float32, copy=False)


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise RefusedModel(path=path, reason="it is a folder", hint="give the .onnx file in it")
    try:
        data = read_limited(path, MAX_MODEL_BYTES)
    except RefusedInput as exc:
        raise RefusedModel(path=path, reason=exc.fields["reason"], hint=exc.advice) from exc
    if path.lstat().st_nlink > 1:
        raise RefusedModel(path=path, reason="the file has several names (hard links)", hint="copy it first")
    return data
