"""Does ONNX Runtime work on this processor? Asked in a child: an unknown instruction must not end the doctor."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile

from pi_agent.checks.base import Context, Finding, failed, passed
from pi_agent.contract.errors import Exit

_PATIENCE = 120.0
_ADVICE = "only verify needs it: pip install --force-reinstall onnxruntime, a release made for this processor"
MODEL = "CAg6QAoRCgFhCgFhEgF5IgZNYXRNdWwSAWdaEwoBYRIOCgwIARIICgIIEAoCCBBiEwoBeRIOCgwIARIICgIIEAoCCBBCBAoAEA0="
"""y = a @ a for float32 (16, 16), opset 13: the smallest model that needs the matrix kernels."""
_PROGRAM = """
import base64, sys
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.log_severity_level = 4
model = base64.b64decode(sys.argv[1])
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
square = session.run(None, {"a": numpy.full((16, 16), 0.5, numpy.float32)})[0]
assert (square == 4).all(), "it computes wrongly"
sys.stdout.write(onnxruntime.__version__)
"""


def check(context: Context) -> Finding:
    """Exit 65 where a model cannot be run."""
    line = [context.python, "-P", "-c", _PROGRAM, MODEL]
    environment = {"PATH": os.environ.get("PATH", ""), "MALLOC_ARENA_MAX": "2"}
    try:
        with tempfile.TemporaryDirectory(prefix="pi-agent-doctor-") as empty:
            done = subprocess.run(
                line,
                cwd=empty,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PATIENCE,
                check=False,
            )
    except subprocess.TimeoutExpired:
        return failed(f"ONNX Runtime did nothing for {_PATIENCE:.0f} s", _ADVICE, Exit.REFUSED_INPUT)
    if done.returncode == 0:
        return passed(f"ONNX Runtime {done.stdout.decode(errors='replace')} runs a model")
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        why = {"SIGILL": "it met an instruction that this processor does not have", "SIGKILL": "too little memory?"}
        return failed(f"ONNX Runtime was ended by {name}: {why.get(name, 'it crashed')}", _ADVICE, Exit.REFUSED_INPUT)
    last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
    return failed(f"ONNX Runtime does not work: {last[:300]}", _ADVICE, Exit.REFUSED_INPUT)
