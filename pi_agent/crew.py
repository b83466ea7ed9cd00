"""Several queries under way at once: threads that each hold one connection and carry one query at a time.

The threads only move bytes. Ledger, queue and judgement stay with the thread that owns the crew.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from pi_agent.transports.base import Reply, Transport, TransportError


@dataclass(frozen=True)
class Landing:
    """What came back for the attempt: a reply, a `TransportError`, or a bug of ours to be raised again."""

    attempt: int
    outcome: Reply | BaseException


class Crew:
    """At most `size` threads, started as they are needed; `connect` opens a connection for each."""

    def __init__(self, connect: Callable[[], Transport], size: int) -> None:
        self._connect, self._size = connect, size
        self._outbox: queue.SimpleQueue[tuple[int, bytes] | None] = queue.SimpleQueue()
        self._inbox: queue.SimpleQueue[Landing | None] = queue.SimpleQueue()
        self._threads = 0
        self.under_way = 0

    def send(self, attempt: int, jpeg: bytes) -> None:
        """Let a thread ask; what comes back is fetched with `landed`."""
        self.under_way += 1
        if self._threads < min(self._size, self.under_way):
            self._threads += 1
            # Daemons: a thread that waits for a silent oracle must not keep a stopped agent alive.
            threading.Thread(target=self._work, name=f"asking-{self._threads}", daemon=True).start()
        self._outbox.put((attempt, jpeg))

    def landed(self, patience: float | None = None) -> list[Landing]:
        """Everything that has come back; waits for the first, at most `patience` seconds, or until `wake` is called."""
        found: list[Landing] = []
        deadline = None if patience is None else time.monotonic() + patience
        try:
            first = self._inbox.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
            found += [first] if first else []
            while True:
                more = self._inbox.get_nowait()
                found += [more] if more else []
        except queue.Empty:
            self.under_way -= len(found)
            return found

    def wake(self) -> None:
        """Let `landed` return. Safe to call from a signal handler."""
        self._inbox.put(None)

    def dismiss(self) -> None:
        """Send the threads home; one that is still waiting for an answer goes when it has it."""
        for _ in range(self._threads):
            self._outbox.put(None)
        self._threads = 0

    def _work(self) -> None:
        transport: Transport | None = None
        while (job := self._outbox.get()) is not None:
            attempt, jpeg = job
            try:
                transport = transport or self._connect()
                outcome: Reply | BaseException = transport.ask(jpeg)
            except TransportError as exc:
                outcome = exc
            except BaseException as exc:  # a bug: the owner's thread raises it where it is seen
                outcome = exc
            self._inbox.put(Landing(attempt, outcome))
        if transport is not None:
            transport.close()
