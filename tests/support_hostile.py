"""An oracle that misbehaves: honest about clock and quota, so that agents ask it, and then anything at all."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from email.utils import formatdate

Behaviour = Callable[[socket.socket, int], None]
"""What is done with the connection of the n-th question, counted from 1."""


class Hostile(socketserver.ThreadingTCPServer):
    """Answers `GET` with 404 and the time, `POST` as `behaviour` likes."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, behaviour: Behaviour) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behaviour, self.ended = behaviour, threading.Event()
        self.requests: list[str] = []
        self.connections = 0
        self.date: str | None = None
        self.keys: set[str | None] = set()

    @property
    def url(self) -> str:
        """Its base address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def asked(self) -> int:
        """Questions that arrived."""
        return sum(r.startswith("POST ") for r in self.requests)


class _Handler(socketserver.StreamRequestHandler):
    server: Hostile

    def handle(self) -> None:
        self.server.connections += 1
        with contextlib.suppress(OSError):
            while line := self.rfile.readline().decode("latin-1").strip():
                headers = {}
                while header := self.rfile.readline().decode("latin-1").strip():
                    name, _, value = header.partition(":")
                    headers[name.lower()] = value.strip()
                self.rfile.read(int(headers.get("content-length", 0)))
                self.server.requests.append(line.rpartition(" ")[0])
                self.server.keys.add(headers.get("authorization"))
                if line.startswith("GET "):
                    self.request.sendall(reply(404, b"{}", date=self.server.date))
                else:
                    self.server.behaviour(self.request, self.server.asked)


@contextlib.contextmanager
def hostile(behaviour: Behaviour) -> Iterator[Hostile]:
    """Run it in a thread for the length of the block."""
    with Hostile(behaviour) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.ended.set()
            server.shutdown()
            thread.join()


def reply(status: int, body: bytes, *headers: str, length: int | None = None, date: str | None = None) -> bytes:
    """An HTTP answer; `length` lies about the body, `date` about the time."""
    head = [
        f"HTTP/1.1 {status} Said",
        f"Date: {date or formatdate(usegmt=True)}",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def answer(*scores: float) -> bytes:
    """A good answer with classes c0, c1 ..."""
    return reply(200, json.dumps({"classes": [f"c{i}" for i in range(len(scores))], "scores": scores}).encode())


def say(data: bytes) -> Behaviour:
    """Always the same bytes, then hang up."""

    def behave(connection: socket.socket, number: int) -> None:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_RDWR)

    return behave


def keep_saying(data: bytes) -> Behaviour:
    """Always the same bytes, on a connection that stays open."""
    return lambda connection, number: connection.sendall(data)


def drip(head: bytes, drop: bytes, seconds: float) -> Behaviour:
    """`head`, and then one drop after the other for as long as anybody listens."""

    def behave(connection: socket.socket, number: int) -> None:
        pause = threading.Event()
        connection.sendall(head)
        while True:  # ends when the other side hangs up
            pause.wait(seconds)
            connection.sendall(drop)

    return behave


def silence(connection: socket.socket, number: int) -> None:
    """Hear the question and say nothing for as long as anybody waits."""
    connection.recv(1)


GOOD = b'{"classes": ["c0", "c1"], "scores": [0.25, 0.75]}'
_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
USELESS: dict[str, Behaviour] = {
    "garbage": say(b"\x00\xffgarbage\r\n\r\n"),
    "not HTTP": say(b"220 smtp.example.org ESMTP\r\n"),
    "closed at once": say(b""),
    "closed early": say(reply(200, GOOD[:20], length=len(GOOD))),
    "server error": keep_saying(reply(500, b'{"error": "oops"}')),
    "no such page": keep_saying(reply(404, b"not here")),
    "redirect": keep_saying(reply(307, b"", "Location: /elsewhere")),
    "HTML": keep_saying(reply(200, b"<html>please log in</html>")),
    "half a JSON": keep_saying(reply(200, GOOD[:20])),
    "a JSON list": keep_saying(reply(200, b"[1, 2]")),
    "deep JSON": keep_saying(reply(200, b"[" * 100_000)),
    "NaN": keep_saying(reply(200, b'{"classes": ["a", "b"], "scores": [NaN, 1]}')),
    "a number beyond floats": keep_saying(reply(200, b'{"classes": ["a", "b"], "scores": [1%s, 1]}' % (b"0" * 400))),
    "sum not one": keep_saying(reply(200, b'{"classes": ["a", "b"], "scores": [0.9, 0.9]}')),
    "more scores than classes": keep_saying(reply(200, b'{"classes": ["a", "b"], "scores": [0.2, 0.3, 0.5]}')),
    "escape codes": keep_saying(reply(200, b'{"classes": ["\\u001b[2J", "b"], "scores": [0.5, 0.5]}')),
    "endless body": drip(_CHUNKED, b"10000\r\n" + b" " * 0x10000 + b"\r\n", 0),
    "gzip bomb": keep_saying(reply(200, gzip.compress(b" " * 50_000_000), "Content-Encoding: gzip")),
    "endless headers": drip(b"HTTP/1.1 200 OK\r\n", b"X-More: " + b"x" * 60_000 + b"\r\n", 0),
    "dripping headers": drip(b"HTTP/1.1 200 OK\r\n", b"X", 0.1),
    "dripping body": drip(reply(200, b"", length=len(GOOD)), b" ", 0.1),
    "dripping body without a length": drip(b"HTTP/1.0 200 OK\r\n\r\n" + GOOD, b" ", 0.1),
    "silence": silence,
}
