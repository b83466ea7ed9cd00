"""The parent's end of the worker: one process in an empty folder, with a watchdog and bounded answers."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from pi_agent.contract.errors import RefusedModel
from pi_agent.contract.strict import build

Header = TypeVar("Header")
MAX_LINE = 64 * 1024
WORKER = Path(__file__).with_name("worker.py")
RAN = "it was run in a closed process only"
_DEATHS: dict[int, tuple[str, str]] = {
    signal.SIGXCPU: ("it computes longer than a suspect may", "it was stopped"),
    signal.SIGKILL: ("the system killed it, most likely for its need of memory", "try on a machine with more memory"),
    signal.SIGILL: ("the runtime met an unknown instruction", "this ONNX Runtime is not made for this processor"),
}


class Child:
    """One worker process in an empty folder; whatever goes wrong with it is a `RefusedModel`."""

    def __init__(self, path: Path, wall_seconds: float) -> None:
        """Start the process; `path` is for messages only. The clock runs from `__enter__` on."""
        self._path, self._wall_seconds, self._late = path, wall_seconds, False
        self._folder = tempfile.TemporaryDirectory(prefix="suspect-")
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._folder.name,
            env={"MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
            start_new_session=True,
        )
        assert self._process.stdin and self._process.stdout
        self._to, self._from = self._process.stdin, self._process.stdout
        self._watchdog = threading.Timer(wall_seconds, self._stop)
        self._watchdog.daemon = True

    def __enter__(self) -> Child:
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

    def tell(self, header: dict[str, Any], body: bytes | memoryview) -> None:
        """Send one message. Never raises: if it has gone, it has perhaps left a last word for `hear`."""
        try:
            self._to.write(json.dumps(header).encode() + b"\n")
            self._to.write(body)
            self._to.flush()
        except BrokenPipeError:
            pass

    def hear(self, header: type[Header]) -> Header:
        """The header of the next answer, one line of at most 64 KiB. Raises `RefusedModel` (65)."""
        try:
            answer = json.loads(self._from.readline(MAX_LINE))
            if isinstance(answer, dict) and isinstance(problem := answer.get("error"), str):
                raise RefusedModel(path=self._path, reason=clean(problem), hint=RAN)
            return build(header, answer)
        except (ValueError, RecursionError) as exc:  # `Mismatch` is a ValueError
            raise self.died() from exc

    def body(self, length: int) -> bytes:
        """The bytes after a header, exactly so many. Raises `RefusedModel` (65)."""
        body = self._from.read(length)
        if len(body) != length:
            raise self.died()
        return body

    def died(self) -> RefusedModel:
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


def clean(text: str) -> str:
    """Text from a stranger, short and without control characters: it ends on a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text[:400])
