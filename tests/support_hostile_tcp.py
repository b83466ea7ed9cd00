"""A CSAW TCP oracle that misbehaves: greets as it should, or not, and then does anything at all."""

from __future__ import annotations

import contextlib
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from email.utils import formatdate

from pi_agent.contract.images import SIDE

PICTURE_BYTES = SIDE * SIDE * 3
Behaviour = Callable[[socket.socket, int], None]
"""What is done with the connection of the n-th picture, counted from 1."""
Greeting = Callable[[socket.socket, bytes], None]
"""What is said to a key."""


def granted(facts: str = "") -> Greeting:
    """Let everybody in."""
    return lambda connection, key: connection.sendall(f"access granted{facts}\n".encode())


class HostileTcp(socketserver.ThreadingTCPServer):
    """Shows `banner`, greets with `greet`, takes a whole picture and leaves the rest to `behaviour`."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, behaviour: Behaviour, greet: Greeting, banner: bytes | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behaviour, self.greet, self.banner = behaviour, greet, banner
        self.ended = threading.Event()
        self.keys: list[bytes] = []
        self.pictures: list[bytes] = []

    @property
    def url(self) -> str:
        """Its address."""
        return f"tcp://127.0.0.1:{self.server_address[1]}"

    @property
    def asked(self) -> int:
        """Questions that arrived: pictures of which at least one byte came."""
        return len(self.pictures)


class _Handler(socketserver.StreamRequestHandler):
    server: HostileTcp

    def handle(self) -> None:
        server = self.server
        with contextlib.suppress(OSError):
            banner = f"hello; Date: {formatdate(usegmt=True)}\n".encode() if server.banner is None else server.banner
            self.request.sendall(banner)
            key = self.rfile.readline().strip()
            server.keys.append(key)
            server.greet(self.request, key)
            if picture := self.rfile.read(PICTURE_BYTES):
                server.pictures.append(picture)
                server.behaviour(self.request, server.asked)


@contextlib.contextmanager
def hostile_tcp(
    behaviour: Behaviour, greet: Greeting | None = None, banner: bytes | None = None
) -> Iterator[HostileTcp]:
    """Run it in a thread for the length of the block."""
    with HostileTcp(behaviour, greet or granted(), banner) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.ended.set()
            server.shutdown()
            thread.join()


def lines(*scores: float) -> bytes:
    """A good answer with classes c0, c1 ..."""
    return b"".join(b"c%d: %r\n" % (i, score) for i, score in enumerate(scores))


def say(data: bytes) -> Behaviour:
    """Always the same bytes, then hang up."""
    return lambda connection, number: connection.sendall(data)


def keep_saying(data: bytes) -> Behaviour:
    """Always the same bytes, on a connection that stays open for as long as the other side likes."""

    def behave(connection: socket.socket, number: int) -> None:
        connection.sendall(data)
        while connection.recv(65536):
            pass

    return behave


def piece_by_piece(pieces: list[bytes], seconds: float = 0.001) -> Behaviour:
    """One piece after the other in packets of their own, then hang up."""

    def behave(connection: socket.socket, number: int) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
            threading.Event().wait(seconds)

    return behave


def drip(head: bytes, drop: bytes, seconds: float) -> Behaviour:
    """`head`, and then one drop after the other for as long as anybody listens."""

    def behave(connection: socket.socket, number: int) -> None:
        connection.sendall(head)
        while True:  # ends when the other side hangs up
            threading.Event().wait(seconds)
            connection.sendall(drop)

    return behave


def reset_after(data: bytes) -> Behaviour:
    """Some bytes, and then the connection breaks off."""

    def behave(connection: socket.socket, number: int) -> None:
        connection.sendall(data)
        reset(connection, number)

    return behave


def reset(connection: socket.socket, number: int) -> None:
    """Break the connection off as a crashing host does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    os.close(connection.detach())  # `close` would wait for the handler's files


GOOD = lines(0.25, 0.5, 0.25)
USELESS: dict[str, Behaviour] = {
    "garbage": say(b"\x00\xffgarbage\r\n\r\n"),
    "HTTP": say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "closed at once": say(b""),
    "reset": reset,
    "closed early": say(lines(0.5, 0.5)),
    "closed in a line": say(GOOD[:-4]),
    "closed before the end of the last line": say(GOOD[:-1]),
    "reset early": reset_after(lines(0.5, 0.5)),
    "NaN": say(GOOD.replace(b"0.5", b"nan")),
    "infinite": say(GOOD.replace(b"0.5", b"inf")),
    "huge": say(GOOD.replace(b"0.5", b"1e999")),
    "endless number": say(GOOD.replace(b"0.5", b"5" * 1500)),
    "negative": say(GOOD.replace(b"0.5", b"-0.5")),
    "hexadecimal": say(GOOD.replace(b"0.5", b"0x1p-1")),
    "Arabic digits": say(GOOD.replace(b"0.5", b"\xd9\xa0.\xd9\xa5")),
    "no number": say(GOOD.replace(b"0.5", b"")),
    "no class": say(GOOD.replace(b"c1", b"")),
    "one class twice": say(GOOD.replace(b"c1", b"c0")),
    "sum not one": say(GOOD.replace(b"0.5", b"0.9")),
    "escape codes": say(GOOD.replace(b"c1", b"c\x1b[2J")),
    "no UTF-8": say(GOOD.replace(b"c1", b"\xff\xfe")),
    "a NUL": say(GOOD.replace(b"c1", b"c\x00")),
    "endless line": drip(b"", b"x" * 60_000, 0),
    "endless classes": say(b"".join(b"c%d: 0\n" % i for i in range(5000))),
    "endless blanks": drip(b"", b"\r\n" * 30_000, 0),
    "dripping line": drip(b"", b"x", 0.1),
    "dripping blanks": drip(b"", b"\n", 0.1),
    "dripping classes": drip(lines(0.5), b"\n", 0.1),
    "silence": keep_saying(b""),
    "silence after a few lines": keep_saying(lines(0.25, 0.5)),
}
"""Answers of an oracle with the classes c0, c1, c2 that are none."""
