"""Ctrl-C and systemd's stop, taken at a moment of our choosing.

An exception that a signal raises anywhere could tear a durable transaction from the answers that were paid for. So
the signal is only noted, and raised where nothing is at stake: while the agent sleeps or asks for the time.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Notes a request to stop. `asked` is True from then on; a second request is raised at once."""

    def __init__(self) -> None:
        self.asked = False
        self._welcome = False
        self._tell: Callable[[], None] = lambda: None

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Take the signals for the length of the block; only in the main thread."""
        before = {number: signal.signal(number, self._note) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def tells(self, tell: Callable[[], None]) -> None:
        """Call `tell` from the signal handler, to wake whoever waits."""
        self._tell = tell

    @contextlib.contextmanager
    def welcome(self) -> Iterator[None]:
        """In this block a request to stop is raised at once, as `KeyboardInterrupt`."""
        self._welcome = True
        try:
            if self.asked:
                raise KeyboardInterrupt
            yield
        finally:
            self._welcome = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        again, self.asked = self.asked, True
        self._tell()
        if self._welcome or again:
            raise KeyboardInterrupt
