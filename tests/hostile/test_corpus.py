"""Every hostile file through the real command: a refusal with its reason or a verdict, in time, and nothing touched."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from pi_agent.contract.errors import RefusedModel
from pi_agent.contract.manifest import InputSpec
from pi_agent.runtime.suspect import Limits, Suspect
from tests.hostile.canary import Canary
from tests.hostile.command import ROOT, agent
from tests.hostile.corpus import CORPUS, FAMILIES
from tests.hostile.suspects import HONEST, Hostile
from tests.support_models import save

QUICK = [name for name, hostile in CORPUS.items() if not hostile.slow]
SLOW = [name for name, hostile in CORPUS.items() if hostile.slow]
PICTURES = np.random.default_rng(0).integers(0, 256, (2, 300, 300, 3), dtype=np.uint8)
SMALL = Limits(memory_bytes=192 * 1024**2, cpu_seconds=1, wall_seconds=20)


def workers() -> list[int]:
    """Process ids of our own children that are ONNX Runtime's workers."""
    ours = " ".join(path.read_text() for path in Path("/proc/self/task").glob("*/children")).split()
    return [int(pid) for pid in ours if b"worker.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def contents(folder: Path) -> dict[str, bytes | None]:
    """All that is below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def check_reasons(hostile: Hostile, message: str) -> None:
    """The refusal says where and why, and it can stand on a terminal."""
    assert ": model refused: " in message
    for reason in hostile.reasons:
        assert reason in message
    assert len(message) < 1500


@pytest.mark.parametrize("name", QUICK)
def test_it_ends_in_a_refusal_or_a_verdict_and_touches_nothing(name: str, claim: Path, ground: Path) -> None:
    hostile = CORPUS[name]
    suspect = hostile.place(ground / "suspect")
    secrets = contents(ground / "canary")
    with Canary(ground / "canary", ground / "home", ground / "suspect") as canary:
        done = agent(ground, suspect, "--claim", claim)
    assert done.returncode in ((65,) if hostile.reasons else (0, 10, 11, 65)), done.stderr
    if done.returncode == 65:
        assert done.stdout == ""
        assert done.stderr.isascii()
        error = json.loads(done.stderr)["error"]
        check_reasons(hostile, error["message"])
        assert error["hint"] or "larger than" in error["message"]
    else:
        assert json.loads(done.stdout)["verdict"] in ("owned", "not-owned", "inconclusive")
    assert canary.touched <= {suspect}
    assert contents(ground / "canary") == secrets
    assert not list((ground / "home").iterdir())
    assert not list((ground / "tmp").iterdir())


@pytest.mark.parametrize("name", SLOW)
def test_it_is_stopped_at_its_limit_of_time(name: str, ground: Path) -> None:
    suspect = Suspect(CORPUS[name].place(ground / "suspect"))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        suspect.scores(PICTURES, 4, InputSpec(), SMALL)
    except RefusedModel as exc:
        assert exc.advice
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < SMALL.cpu_seconds + 5
    assert not workers()


def test_the_corpus_is_as_large_as_promised_and_every_family_is_there() -> None:
    assert len(CORPUS) >= 60
    assert sum(len(list(family())) for family in FAMILIES.values()) == len(CORPUS), "two of one name"


def test_a_model_that_allocates_without_end_stays_below_its_limit(ground: Path) -> None:
    """The kernel's own count of the child: what it had mapped before the model came, the limit, and no more."""
    doubling = CORPUS["doubled-45-times"].place(ground / "suspect")
    probe = (
        "import resource, sys; from pathlib import Path; import numpy as np\n"
        "from pi_agent.contract.errors import RefusedModel\n"
        "from pi_agent.contract.manifest import InputSpec\n"
        "from pi_agent.runtime.suspect import Limits, Suspect\n"
        "try: Suspect(Path(sys.argv[1])).scores([np.zeros((300, 300, 3), np.uint8)], 4, InputSpec(),\n"
        "                                       Limits(memory_bytes=int(sys.argv[2])))\n"
        "except RefusedModel: print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    peaks = []
    for limit in (32 * 1024**2, 512 * 1024**2):
        command = [sys.executable, "-c", probe, str(doubling), str(limit)]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout) * 1024)
    assert peaks[1] - peaks[0] < 512 * 1024**2


def test_a_model_that_sleeps_is_stopped_by_the_clock(ground: Path) -> None:
    """No operator sleeps, so the child is put to sleep from outside: it uses no processor time at all."""

    def still() -> None:
        while not (found := workers()):
            time.sleep(0.01)
        os.kill(found[0], signal.SIGSTOP)

    thread = threading.Thread(target=still, daemon=True)
    thread.start()
    suspect = Suspect(CORPUS["endless-products"].place(ground / "suspect"))
    with pytest.raises(RefusedModel, match="no result within 2 s"):
        suspect.scores(PICTURES, 4, InputSpec(), Limits(wall_seconds=2))
    thread.join()
    assert not workers()


def test_a_file_that_grows_while_it_is_read_ends_somewhere(claim: Path, ground: Path) -> None:
    suspect, done = save(HONEST, ground / "suspect" / "suspect.onnx"), threading.Event()

    def grow() -> None:
        with suspect.open("ab") as stream:
            while not done.is_set() and stream.tell() < 64 * 1024**2:
                stream.write(bytes(1 << 16))
                stream.flush()

    thread = threading.Thread(target=grow, daemon=True)
    thread.start()
    try:
        found = agent(ground, suspect, "--claim", claim)
    finally:
        done.set()
        thread.join()
    assert found.returncode in (65, 10, 11), found.stderr


# --- The watchers themselves ---


def test_the_canary_sees_whoever_opens_makes_or_removes_a_file(ground: Path) -> None:
    folder = ground / "canary"
    with Canary(folder) as canary:
        assert not canary.touched
    assert not canary.touched
    for touch in (
        lambda: (folder / "secret.bin").read_bytes(),
        lambda: (folder / "new").write_bytes(b""),
        lambda: (folder / "new").unlink(),
    ):
        with Canary(folder) as canary:
            touch()
        assert len(canary.touched) == 1
