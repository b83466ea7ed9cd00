"""A pytest plugin: which tests run on the emulated Pi. What stays out is listed at the end, each with its reason.

The rule: a test file runs if neither it nor a module of tests/ that it imports needs a package that no Pi has. That is
everything but the agent's own packages and the test tools, and above all `training_host`. Tests about the files of the
project, not about running code, are pointless a second time. Single tests that an emulator cannot do are named here.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

TESTS = Path(__file__).resolve().parents[1]
HERE = {"pi_agent", "tests", "numpy", "cv2", "PIL", "requests", "onnxruntime", "platformdirs", "click"}
TOOLS = {"pytest", "hypothesis", "onnx", "prometheus_client", "urllib3"}
ALLOWED = {"training_host.predictor"}
"""Of the host, what needs the agent's packages only."""

FILES = {
    "integration/test_chaos.py": "kills hundreds of processes at moments that an emulator's start-up never reaches",
    "integration/test_clock_jumps.py": "drives the machinery of the chaos",
    "integration/test_damaged_database.py": "hundreds of processes about SQLite's file format, the same everywhere",
    "integration/test_demo.py": "trains models, on the host",
    "integration/test_disk_faults.py": "makes every write fail in turn, thousands of processes: hours in an emulator",
    "integration/test_dispute.py": "verdicts by the dozen, each as in test_verify.py, which runs here",
    "integration/test_same_verdict_shapes.py": "its shapes that a Pi meets are in pi/test_same_verdict.py",
    "integration/test_systemd.py": "needs systemd's tools and seccomp, which qemu-user has not",
}
SINGLE = {
    "unit/test_p_value.py::test_no_stranger_gets_small_p_values_more_often_than_stated": (
        "a simulation of the mathematics, minutes long here and the same on every processor"
    ),
    "integration/test_suspect.py::test_a_model_that_needs_too_much_memory_is_refused": (
        "qemu-user ignores the limit on memory (RLIMIT_AS)"
    ),
    "integration/test_suspect.py::test_after_the_limits_there_are_no_files_no_memory_no_processes"
    "[bytearray(200_000_000)]": "qemu-user ignores the limit on memory (RLIMIT_AS)",
    "integration/test_suspect.py::test_a_child_that_dies_is_a_refused_model_that_says_how": (
        "finds the child by listing /proc, where an emulated program sees one file only"
    ),
}


def imports(path: Path) -> Iterator[str]:
    """The full names that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def foreign(path: Path) -> str | None:
    """The first import of a test file, or of what it imports from tests/, that no Pi has."""
    todo, seen = [path], {path}
    while todo:
        for name in imports(current := todo.pop()):
            top = name.partition(".")[0]
            if top == "tests":
                module = TESTS.parent / (name.replace(".", "/") + ".py")
                if module.is_file() and module not in seen:
                    seen.add(module)
                    todo.append(module)
            elif name not in ALLOWED and top not in HERE | TOOLS | sys.stdlib_module_names:
                return f"imports {name}" + ("" if current == path else f" by way of {current.name}")
    return None


def left_out(path: Path) -> str | None:
    """Why a test file stays out, or None if it runs."""
    return FILES.get(path.relative_to(TESTS).as_posix()) or foreign(path)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Files that stay out are never imported."""
    if collection_path.name.startswith("test_") and collection_path.suffix == ".py" and left_out(collection_path):
        return True
    return None


def reason(node: str) -> str | None:
    """Why a single test, named `folder/file.py::test` without its parameters, stays out."""
    return SINGLE.get(node.removeprefix("tests/").partition("[")[0]) or SINGLE.get(node.removeprefix("tests/"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Single tests that stay out count as deselected."""
    out = [item for item in items if reason(item.nodeid)]
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in out]
    for item in items:
        _fewer_examples(item)


def _fewer_examples(item: pytest.Item) -> None:
    """Give a hypothesis test no more examples than the profile does, whatever it wishes for a fast machine."""
    most = settings.default.max_examples
    for holder, name in (
        (getattr(item, "cls", None), "settings"),  # a state machine
        (getattr(item, "function", None), "_hypothesis_internal_use_settings"),  # hypothesis has no public name for it
    ):
        own = getattr(holder, name, None)
        if isinstance(own, settings) and own.max_examples > most:
            setattr(holder, name, settings(own, max_examples=most))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what was left out."""
    terminalreporter.section("not run on the emulated Pi", sep="-")
    for path in sorted(TESTS.rglob("test_*.py")):
        if why := left_out(path):
            terminalreporter.line(f"{path.relative_to(TESTS)}: {why}")
    for node, why in sorted(SINGLE.items()):
        terminalreporter.line(f"{node}: {why}")
