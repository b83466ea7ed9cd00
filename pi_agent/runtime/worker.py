"""The child that loads a stranger's model: limits first, then ONNX Runtime, raw floats back. Never imported by the agent.

Run as `python -I -m pi_agent.runtime.worker` in an empty folder. stdin: one JSON line with the sizes, the model's bytes,
then the pictures as uint8. stdout: one JSON line, then the scores as little-endian float32. No pickle in either way.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import IO, Any

MAX_OUTPUT_FLOATS = 50_000_000


def limit_resources(limits: dict[str, int]) -> None:
    """Give up memory, time, files and processes before anything hostile is read."""
    for name, value in (
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_CPU, limits["cpu_seconds"]),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(name, (value, value))


def main() -> None:
    """Read one job, run it, write one result."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    job = json.loads(source.readline())
    # Imported before the limits: the runtime maps files and starts threads that are ours, not the model's.
    import numpy as np
    import onnxruntime as ort

    limit_resources(job["limits"])
    try:
        model = _read(source, job["model_bytes"])
        shape = tuple(job["shape"])
        pictures = np.frombuffer(_read(source, int(np.prod(shape))), dtype=np.uint8).reshape(shape)
        scores = run(ort, np, model, pictures, job["input"], job["classes"])
    except Refusal as exc:
        _answer(sink, {"error": str(exc)}, b"")
    except MemoryError:
        _answer(sink, {"error": "it needs more memory than a suspect gets"}, b"")
    except Exception as exc:  # whatever ONNX Runtime raises on a hostile file is the model's fault
        _answer(sink, {"error": f"it cannot be run ({str(exc)[:300]})"}, b"")
    else:
        _answer(sink, {"shape": list(scores.shape)}, scores.astype("<f4").tobytes())


class Refusal(Exception):
    """The model does not look like a classifier of these classes."""


def run(ort: Any, np: Any, model: bytes, pictures: Any, spec: dict[str, Any], classes: int) -> Any:
    """Scores (n, classes) of uint8 pictures (n, 300, 300, 3). Finds out layout and size from the model's own input."""
    from pi_agent.contract.manifest import InputSpec
    from pi_agent.contract.strict import build
    from pi_agent.prepare import network_input, shrink_to

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = 1, 1, 4
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise Refusal(f"it has {len(inputs)} inputs and {len(outputs)} outputs; one of each is expected")
    if inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
        raise Refusal(f"its input is {inputs[0].type} {inputs[0].shape}; a batch of float pictures is expected")
    _, a, b, c = inputs[0].shape
    if a == 3:
        layout, size = "NCHW", (b, c)
    elif c == 3:
        layout, size = "NHWC", (a, b)
    else:
        raise Refusal(f"its input {inputs[0].shape} has no three colour channels")
    if not all(isinstance(side, int) for side in size):
        size = tuple(spec["size"])
    fixed = inputs[0].shape[0] if isinstance(inputs[0].shape[0], int) else None
    whole = build(InputSpec, {**spec, "size": list(size), "layout": layout})
    small = np.stack([shrink_to(p, whole) for p in pictures])
    step, parts = fixed or 32, []
    for start in range(0, len(small), step):
        chunk = small[start : start + step]
        missing = step - len(chunk) if fixed else 0
        padded = np.concatenate([chunk, np.repeat(chunk[-1:], missing, axis=0)]) if missing else chunk
        found = np.asarray(session.run(None, {inputs[0].name: network_input(padded, whole)})[0])
        if found.ndim != 2 or found.shape != (len(padded), classes) or found.dtype != np.float32:
            raise Refusal(f"it answers {found.dtype} {found.shape}; float32 ({len(padded)}, {classes}) is expected")
        parts.append(found[: len(chunk)])
    scores = np.concatenate(parts)
    if not np.isfinite(scores).all():
        raise Refusal("its answers are not finite numbers")
    return scores


def _read(source: IO[bytes], count: int) -> bytes:
    data = source.read(count)
    if len(data) != count:
        raise Refusal("the job was cut short")
    return data


def _answer(sink: IO[bytes], header: dict[str, Any], body: bytes) -> None:
    sink.write(json.dumps(header).encode() + b"\n" + body)
    sink.flush()


if __name__ == "__main__":
    main()
