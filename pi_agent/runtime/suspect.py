"""Run an untrusted ONNX model on pictures: inspected first, then in a limited child process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pi_agent.contract.errors import RefusedInput, RefusedModel
from pi_agent.contract.files import read_limited, sha256_hex
from pi_agent.contract.manifest import InputSpec
from pi_agent.contract.strict import as_mapping
from pi_agent.runtime.inspect import MAX_MODEL_BYTES, inspect_model

MEMORY_BYTES = 3 * 1024**3
"""Address space, not resident memory: the runtime's libraries alone map more than a gigabyte."""
CPU_SECONDS = 120
WALL_SECONDS = 180


class Suspect:
    """A model file from a stranger. `sha256` is that of exactly the bytes that will be run."""

    def __init__(self, path: Path) -> None:
        """Read and inspect. Raises `RefusedModel` (65); nothing of the file has been run then."""
        try:
            self._data = read_limited(path, MAX_MODEL_BYTES)
        except RefusedInput as exc:
            raise RefusedModel(path=path, reason=exc.fields["reason"], hint=exc.advice) from exc
        if path.stat().st_nlink > 1:
            raise RefusedModel(path=path, reason="the file has several names (hard links)", hint="copy it first")
        self.path, self.sha256 = path, sha256_hex(self._data)
        self.contents = inspect_model(self._data, str(path))

    def scores(
        self, pictures: npt.NDArray[np.uint8], classes: int, spec: InputSpec, wall_seconds: float = WALL_SECONDS
    ) -> npt.NDArray[np.float32]:
        """Its answers, float32 (n, classes), to uint8 pictures (n, height, width, 3), prepared as `spec` says.

        The model's own input decides size and layout. Raises `RefusedModel` (65) when it crashes, takes too long, needs
        too much memory or is no classifier of so many classes.
        """
        job = {
            "model_bytes": len(self._data),
            "shape": list(pictures.shape),
            "classes": classes,
            "input": as_mapping(spec),
            "limits": {"memory_bytes": MEMORY_BYTES, "cpu_seconds": CPU_SECONDS},
        }
        message = json.dumps(job).encode() + b"\n" + self._data + pictures.tobytes()
        with tempfile.TemporaryDirectory(prefix="suspect-") as empty:
            try:
                done = subprocess.run(
                    [sys.executable, "-I", "-m", "pi_agent.runtime.worker"],
                    input=message,
                    capture_output=True,
                    timeout=wall_seconds,
                    cwd=empty,
                    env={"MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
                    check=False,
                )
            except subprocess.TimeoutExpired as exc:
                reason = f"no result within {wall_seconds:g} s"
                raise RefusedModel(path=self.path, reason=reason, hint="it was stopped") from exc
        return self._result(done, len(pictures), classes)

    def _result(self, done: subprocess.CompletedProcess[bytes], count: int, classes: int) -> npt.NDArray[np.float32]:
        header, _, body = done.stdout.partition(b"\n")
        try:
            answer = json.loads(header)
        except ValueError as exc:
            how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
            reason, hint = f"the process that ran it died ({how})", "is ONNX Runtime usable on this CPU?"
            raise RefusedModel(path=self.path, reason=reason, hint=hint) from exc
        if "error" in answer:
            raise RefusedModel(path=self.path, reason=answer["error"], hint="it was run in a closed process only")
        if len(body) != count * classes * 4:
            raise RefusedModel(path=self.path, reason="its result was cut short")
        return np.frombuffer(body, dtype="<f4").astype(np.float32).reshape(count, classes)
