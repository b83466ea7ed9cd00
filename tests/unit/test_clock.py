"""Who may vouch for the clock: systemd-timesyncd's flag or the kernel, and never somebody who may not be asked."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from pi_agent import clock
from pi_agent.clock import RELEASED, Clock, kernel_synchronized, system_synchronized
from pi_agent.contract.windows import iso

TIME_ERROR, STA_UNSYNC = 5, 0x40


class FakeLibc:
    """`adjtimex` that gives this state and writes this status to where glibc has it on 64-bit Linux."""

    STATUS_AT = 40

    def __init__(self, state: int, status: int) -> None:
        def adjtimex(pointer: object) -> int:
            timex = pointer._obj  # type: ignore[attr-defined]
            assert timex.modes == 0, "it must only read"
            ctypes.memmove(ctypes.addressof(timex) + self.STATUS_AT, status.to_bytes(4, sys.byteorder), 4)
            return state

        self.adjtimex = adjtimex


@pytest.mark.parametrize(
    ("state", "status", "word"),
    [
        (0, 0x2001, True),
        (0, 0, True),
        (1, 0x2011, True),  # a leap second is announced
        (TIME_ERROR, 0, False),
        (TIME_ERROR, STA_UNSYNC, False),
        (0, STA_UNSYNC, False),
        (0, 0x2001 | STA_UNSYNC, False),
        (-1, 0, None),  # EPERM under a hardened unit
    ],
)
def test_the_kernels_word(monkeypatch: pytest.MonkeyPatch, state: int, status: int, word: bool | None) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeLibc(state, status))
    assert kernel_synchronized() is word


def test_a_system_without_the_call_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert kernel_synchronized() is None


def test_the_real_kernel_gives_the_same_answer_as_its_header_files_structure() -> None:
    """Python's own struct reads the same fields from the same call, in another process."""
    program = (
        "import ctypes, struct; b = ctypes.create_string_buffer(1024); s = ctypes.CDLL(None).adjtimex(b); "
        "print(s, struct.unpack_from('@Illlli', b)[5])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    state, status = map(int, done.stdout.split())
    assert kernel_synchronized() is (None if state < 0 else state != TIME_ERROR and not status & STA_UNSYNC)


@pytest.mark.parametrize("flag", [False, True])
@pytest.mark.parametrize("kernel", [False, True, None])
def test_either_is_enough_and_not_knowing_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: bool, kernel: bool | None
) -> None:
    monkeypatch.setattr(clock, "SYNCHRONIZED_FLAG", tmp_path / "synchronized")
    monkeypatch.setattr(clock, "kernel_synchronized", lambda: kernel)
    if flag:
        (tmp_path / "synchronized").touch()
    assert system_synchronized() is (flag or kernel is True)


def test_the_seam_can_be_told_anything_and_by_default_asks_the_system() -> None:
    told = Clock(lambda: 5.0, lambda seconds: None, lambda: True)
    assert (told.now(), told.synchronized()) == (5.0, True)
    assert Clock().synchronized is system_synchronized


def test_the_day_of_the_release_is_not_in_the_future() -> None:
    assert iso(Clock().now()) >= RELEASED
