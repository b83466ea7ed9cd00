"""The child that runs a stranger's model: imports, then limits, then the model. Never imported by the agent.

Started by its path, `python -I worker.py`, in an empty folder: it needs numpy and ONNX Runtime, nothing of ours. A
dialogue over stdin and stdout, each message one JSON line and raw bytes, no pickle in either way:

    {"model_bytes", "memory_bytes", "cpu_seconds"} + the model
        -> {"inputs": [{"name", "type", "shape": [null, 3, 64, 64]}], "outputs": [...]}
    {"type": "<f4", "shape": [4, 3, 64, 64], "outputs": [0]} + the pictures
        -> {"answers": [{"type": "float32", "shape": [4, 12]}]} + the answers, floats as <f4 and whole numbers as <i8

and so on. Who asks for several outputs learns their types and shapes only. The end of stdin ends it; an answer
{"error": reason} ends it too.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import IO, Any

MAX_TOLD = 9
"""Of inputs, outputs and dimensions no more are told: a header stays short whatever the model declares."""


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
    """Take the model, give up resources, load it and answer batches until the parent has no more."""
    job = json.loads(source.readline())
    model = source.read(job["model_bytes"])  # before the imports: the parent works on while they last
    # Imported before the limits: the runtime maps files and starts threads that are ours, not the model's.
    import numpy as np
    import onnxruntime as ort

    limit_resources(job["memory_bytes"], job["cpu_seconds"])
    session = open_session(ort, model)
    del model
    inputs, outputs = session.get_inputs(), session.get_outputs()
    _say(sink, {"inputs": _declared(inputs), "outputs": _declared(outputs)})
    while line := source.readline():
        ask = json.loads(line)
        kind, shape = np.dtype(ask["type"]), ask["shape"]
        batch = np.frombuffer(source.read(kind.itemsize * int(np.prod(shape))), kind).reshape(shape)
        answers = session.run([outputs[i].name for i in ask["outputs"]], {inputs[0].name: batch})
        found = [_found(answer) for answer in answers]
        body = b""
        if len(answers) == 1 and found[0]["type"] is not None:
            body = answers[0].astype("<f4" if answers[0].dtype.kind == "f" else "<i8").tobytes()
        _say(sink, {"answers": found}, body)


def _declared(ends: list[Any]) -> list[dict[str, Any]]:
    def side(declared: object) -> int | None:
        return declared if isinstance(declared, int) else None  # a symbol's name says nothing

    return [
        {"name": end.name[:80], "type": end.type[:80], "shape": [side(s) for s in end.shape[:MAX_TOLD]]}
        for end in ends[:MAX_TOLD]
    ]


def _found(answer: Any) -> dict[str, Any]:
    """What an output turned out to be: its type is null where it is no tensor of numbers."""
    shape = getattr(answer, "shape", ())
    if not shape or len(shape) > MAX_TOLD or answer.dtype.kind not in "fiu":
        return {"type": None, "shape": []}
    return {"type": str(answer.dtype), "shape": list(shape)}


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
    # Measured: an arena reuses what one layer frees for the next, and a plan of all layers ahead would take more.
    options.enable_cpu_mem_arena, options.enable_mem_pattern = True, False
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # fewer code paths for hostile graphs
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    session._model_bytes = None  # it keeps the file, in case another processor is to be tried
    return session


def _say(sink: IO[bytes], header: dict[str, Any], body: bytes = b"") -> None:
    sink.write(json.dumps(header).encode() + b"\n" + body)
    sink.flush()


if __name__ == "__main__":
    main()
