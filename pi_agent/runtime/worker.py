"""The child that runs a stranger's model: imports, then limits, then the model. Never imported by the agent.

Started by its path, `python -I worker.py`, in an empty folder: it needs numpy and ONNX Runtime, nothing of ours. A
dialogue over stdin and stdout, each message one JSON line and raw bytes, no pickle in either way:

    {"model_bytes", "memory_bytes", "cpu_seconds"} + the model   ->  {"input": [n, 3, 64, 64], "type": "tensor(float)"}
    {"shape": [32, 3, 64, 64]} + float32 pictures                ->  {"shape": [32, 12]} + float32 answers, and so on

The end of stdin ends it; an answer {"error": reason} ends it too.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import IO, Any

DTYPES = {"tensor(float)": "<f4", "tensor(float16)": "<f2"}


def main() -> None:
    """Hold one dialogue."""
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get into the dialogue
    try:
        serve(sys.stdin.buffer, sink)
    except MemoryError:
        _say(sink, {"error": "it needs more memory than a suspect gets"})
    except Exception as exc:  # whatever ONNX Runtime raises on a hostile file is the model's fault
        _say(sink, {"error": f"it cannot be run ({str(exc)[:300]})"})
    os._exit(0)  # the answers are out; no need to learn whether a hostile model survives its own clean-up


def serve(source: IO[bytes], sink: IO[bytes]) -> None:
    """Read the job, give up resources, load the model and answer batches until the parent has no more."""
    # Imported before the limits: the runtime maps files and starts threads that are ours, not the model's.
    import numpy as np
    import onnxruntime as ort

    job = json.loads(source.readline())
    limit_resources(job["memory_bytes"], job["cpu_seconds"])
    model = source.read(job["model_bytes"])
    session = open_session(ort, model)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(f"it has {len(inputs)} inputs and {len(outputs)} outputs; one of each is expected")
    name, dtype = inputs[0].name, DTYPES.get(inputs[0].type)
    _say(sink, {"input": inputs[0].shape, "type": inputs[0].type})
    while line := source.readline():
        shape = json.loads(line)["shape"]
        batch = np.frombuffer(source.read(4 * int(np.prod(shape))), "<f4").reshape(shape)
        answer = np.asarray(session.run(None, {name: batch.astype(dtype, copy=False)})[0])
        if answer.dtype.kind != "f":
            raise ValueError(f"it answers {answer.dtype}; floating-point scores are expected")
        _say(sink, {"shape": list(answer.shape)}, answer.astype("<f4").tobytes())


def limit_resources(memory_bytes: int, cpu_seconds: int) -> None:
    """Give up memory beyond what is mapped now, processor time, files and processes, for good."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        mapped = int(statm.read().split()[0]) * resource.getpagesize()
    for name, soft, hard in (
        (resource.RLIMIT_AS, mapped + memory_bytes, mapped + memory_bytes),
        (resource.RLIMIT_CPU, cpu_seconds, cpu_seconds + 1),  # the soft one ends it by SIGXCPU, which tells why
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_NOFILE, 16, 16),
        (resource.RLIMIT_NPROC, 0, 0),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        resource.setrlimit(name, (soft, hard))


def open_session(ort: Any, model: bytes) -> Any:
    """A session on one thread, from bytes only, read as plain ONNX whatever the bytes look like."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = 1, 1, 4
    options.enable_cpu_mem_arena = False
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # fewer code paths for hostile graphs
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _say(sink: IO[bytes], header: dict[str, Any], body: bytes = b"") -> None:
    sink.write(json.dumps(header).encode() + b"\n" + body)
    sink.flush()


if __name__ == "__main__":
    main()
