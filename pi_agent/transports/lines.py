"""Lines of text from a socket, bounded in length, in number of bytes and in time."""

from __future__ import annotations

import socket
import time

MAX_LINE_BYTES = 2048
MAX_BYTES = 1024 * 1024
_CHUNK = 65536


class Lines:
    """Reads a socket. `deadline` is a moment of `time.monotonic()` that holds for everything together."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection, self._deadline = connection, deadline
        self._buffer, self._received = bytearray(), 0

    @property
    def rest(self) -> bytes:
        """What has arrived of the next line."""
        return bytes(self._buffer)

    def next(self, deadline: float | None = None) -> bytes:
        """The next whole line, without LF or CR LF.

        Raises `EOFError` where the other side has closed, `ValueError` for too much, `OSError` for everything else that
        breaks, `TimeoutError` among it. A line that has no end is never returned.
        """
        while (end := self._buffer.find(b"\n")) < 0:
            self._check(len(self._buffer))
            self._receive(deadline)
        self._check(end)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line.removesuffix(b"\r")

    def next_or_prompt(self, patience: float) -> bytes:
        """As `next`, or, after `patience` seconds of silence, a line without an end."""
        while b"\n" not in self._buffer:
            self._check(len(self._buffer))
            try:
                self._receive(time.monotonic() + patience if self._buffer else None)
            except TimeoutError:
                if not self._buffer or time.monotonic() >= self._deadline:
                    raise
                prompt = self.rest
                self._buffer.clear()
                return prompt
        return self.next()

    def _receive(self, deadline: float | None) -> None:
        until = self._deadline if deadline is None else min(deadline, self._deadline)
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._connection.settimeout(left)
        data = self._connection.recv(_CHUNK)
        if not data:
            raise EOFError("it closed the connection")
        self._received += len(data)
        if self._received > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES // 1024} KiB")
        self._buffer += data

    @staticmethod
    def _check(length: int) -> None:
        if length > MAX_LINE_BYTES:
            raise ValueError(f"a line of more than {MAX_LINE_BYTES} bytes")
