"""What a hostile file makes the command and its child do, as the kernel sees it (strace, where there is one)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hostile.command import ROOT, agent
from tests.hostile.corpus import CORPUS, FAMILIES
from tests.hostile.suspects import HONEST, model


@pytest.fixture
def strace() -> str:
    """strace, where there is one and it may be used."""
    found = shutil.which("strace")
    if found is None or subprocess.run([found, "-f", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no strace here; the canaries watch on")
    return found


@dataclass(frozen=True)
class Call:
    """One line of strace: who called what, about which file (or "")."""

    process: str
    name: str
    arguments: str

    @property
    def path(self) -> str:
        found = re.search(r'"((?:[^"\\]|\\.)*)"', self.arguments)
        return found[1] if found else ""


def calls(log: Path, after: Path) -> list[Call]:
    """What happened after `after` was opened for the first time, but for a child that has not given up its rights yet.

    Before it does, a child imports ONNX Runtime, which looks into /etc; the model is not parsed then.
    """
    lines = [re.match(r"(\d+) +(\w+)\((.*)", line) for line in log.read_text(errors="replace").splitlines()]
    found = [Call(*line.groups()) for line in lines if line]
    agent, free = found[0].process, False
    kept: list[Call] = []
    for call in found:
        free = free or "RLIMIT_CORE" in call.arguments
        first = not kept and call.name == "openat" and call.path.startswith(str(after))
        if first or (kept and (call.process == agent or free)):
            kept.append(call)
    return kept


CODE = ("/usr/", "/lib", "/proc/self/", "/sys/devices/system/cpu", "/etc/ld.so", "/dev/null")
NETWORK = {"socket", "socketpair", "connect", "bind", "listen", "accept", "accept4", "sendto", "sendmsg", "sendmmsg"}


def check_calls(found: list[Call], *ours: Path) -> None:
    """No file but code and what the user named, and no network."""
    assert len(found) > 10, "the trace shows nothing"
    allowed = (*CODE, str(ROOT / "pi_agent"), sys.prefix, sys.base_prefix, *map(str, ours))
    assert not {call.path for call in found if call.path.startswith("/") and not call.path.startswith(allowed)}
    assert not {call.path for call in found if re.search("secret|passwd|weights|^\\.\\.", call.path)}
    assert not NETWORK & {call.name for call in found}


TRACE = ("-f", "-qq", "-e", "trace=%file,%network,prlimit64")


def test_the_system_calls_show_no_file_of_external_data(strace: str, claim: Path, ground: Path) -> None:
    """All of that family in one inbox, beside what they point to."""
    inbox, verdicts, log = ground / "suspect", ground / "verdicts", ground / "log"
    family = list(FAMILIES["data elsewhere"]())
    for hostile in family:
        (inbox / "weights.bin").unlink(missing_ok=True)
        hostile.place(inbox).rename(inbox / f"{hostile.name}.onnx")
    arguments = ("--inbox", inbox, "--verdicts", verdicts, "--claim", claim)
    done = agent(ground, *arguments, before=(strace, *TRACE, "-o", str(log)))
    assert done.returncode == 0, done.stderr
    outcomes = [json.loads(path.read_text())["verdict"] for path in verdicts.glob("*.json")]
    assert set(outcomes) == {"refused"}
    assert len(outcomes) == len(family) - 1, "two have the same bytes"
    models = {str(path) for path in inbox.glob("*.onnx")}
    found = [call for call in calls(log, inbox / "external") if call.path not in models | {str(inbox)}]
    check_calls(found, claim.parent, verdicts, ground / "tmp")


@pytest.mark.parametrize("name", ["honest", "doubled-45-times", "divided-by-0", "answers-nan"])
def test_the_system_calls_of_a_model_that_runs_show_no_file_and_no_network(
    name: str, strace: str, claim: Path, ground: Path
) -> None:
    honest = model("honest", HONEST)
    suspect, log = CORPUS.get(name, honest).place(ground / "suspect"), ground / "log"
    done = agent(ground, suspect, "--claim", claim, before=(strace, *TRACE, "-o", str(log)))
    assert done.returncode in ((10, 11) if name == "honest" else (65,)), done.stderr
    found = calls(log, suspect)
    assert any("RLIMIT_CORE" in call.arguments for call in found), "no child"
    check_calls(found, claim.parent, ground / "tmp", suspect.parent)


@pytest.mark.parametrize("deed", ["open('/etc/hostname')", "open('/etc/passwd')", "import socket; socket.socket()"])
def test_the_check_would_see_a_file_or_a_socket(deed: str, strace: str, ground: Path) -> None:
    suspect, log = model("honest", HONEST).place(ground / "suspect"), ground / "log"
    program = f"open({str(suspect)!r}).close()\nfor _ in range(20): open('/dev/null').close()\n{deed}"
    subprocess.run([strace, *TRACE, "-o", log, sys.executable, "-I", "-c", program], check=True)
    with pytest.raises(AssertionError):
        check_calls(calls(log, suspect), suspect.parent)
    subprocess.run([strace, *TRACE, "-o", log, sys.executable, "-I", "-c", program.replace(deed, "")], check=True)
    check_calls(calls(log, suspect), suspect.parent)
