"""The network between agent and server: it delays, drops, resets and truncates, and keeps the server's own log.

A store-and-forward proxy. It reads each question, notes which picture it is about, and then lets something happen to
it. What it destroyed it knows exactly.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

DEADLY = {
    "request reset": 3,
    "request cut": 2,
    "request late": 1,
    "answer dropped": 3,
    "silence": 1,
    "answer truncated": 4,
}
"""Faults that leave a question without an answer, and how often each happens."""
HARMLESS = {"delay": 3, "long delay": 1, "answer in drips": 2, "closed when idle": 2}


@dataclass
class Post:
    """One question as the network saw it. `image`: SHA-256 of its body, empty where it never arrived whole."""

    run: int
    image: str = ""
    fault: str = ""
    delivered: bool = False
    seconds: float = 0.0


@dataclass(frozen=True)
class Weather:
    """How bad the network is in one run: the share of exchanges that are hit, and how long it cannot be reached."""

    faults: float = 0.0
    unreachable: float = 0.0
    lost_after_first: float = 0.0
    latency: float = 0.02


@dataclass
class Network:
    """A door for one agent. `timeout`: the agent's patience in seconds; `lateness`: a late question arrives so much
    later at most. That a question in the network ends at all is the one assumption an agent has to make.
    """

    server: tuple[str, int]
    rng: random.Random
    timeout: float
    lateness: float
    posts: list[Post] = field(default_factory=list)
    answers: dict[str, list[float]] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    arrived: int = 0
    delivered: int = 0
    gets: int = 0
    run: int = 0
    weather: Weather = field(default_factory=Weather)
    hold: Callable[[], object] = lambda: None
    """Called while a question is under way and has not reached the server."""

    def __post_init__(self) -> None:
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._listener: socket.socket | None = None
        self._closed_until, self._first = 0.0, False
        self.port = self._free_port()

    @property
    def url(self) -> str:
        """Where the agent asks."""
        return f"http://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def open(self) -> Iterator[Network]:
        """Be there for the length of the block."""
        thread = threading.Thread(target=self._listen)
        thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            thread.join()

    def begin(self, weather: Weather) -> None:
        """A new run of the agent begins, in this weather. Call it while no agent is alive."""
        with self._lock:
            self.run, self.weather = self.run + 1, weather
            self._first = weather.lost_after_first > 0
            self._closed_until = time.monotonic() + weather.unreachable
        while weather.unreachable and self._listener is not None:
            time.sleep(0.002)
        while not weather.unreachable and self._listener is None:
            time.sleep(0.002)

    def of_run(self, run: int) -> list[Post]:
        """The questions of one run."""
        with self._lock:
            return [post for post in self.posts if post.run == run]

    def under_way(self) -> int:
        """Questions that have arrived and whose answer has not been handed over."""
        with self._lock:
            return self.arrived - self.delivered

    # -- connections -------------------------------------------------------------------------------------------------

    def _free_port(self) -> int:
        """A port that the kernel gives to nobody by itself: closed for a while, it stays ours."""
        while True:
            port = self.rng.randrange(20_000, 32_000)
            with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
                return port

    def _listen(self) -> None:
        while not self._ended.is_set():
            if time.monotonic() < self._closed_until:
                self._close_listener()
                self._ended.wait(0.002)
                continue
            try:
                self._listener = self._listener or socket.create_server(("127.0.0.1", self.port), backlog=64)
                self._listener.settimeout(0.02)
                connection, _ = self._listener.accept()
            except OSError:
                continue
            if self._first:  # nobody else is connecting yet: no question can be lost unseen with the listener
                self._first, self._closed_until = False, time.monotonic() + self.weather.lost_after_first
                self._close_listener()
            threading.Thread(target=self._serve, args=(connection, self.run), daemon=True).start()
        self._close_listener()

    def _close_listener(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            self._count("unreachable")

    def _serve(self, client: socket.socket, run: int) -> None:
        with client, contextlib.suppress(OSError):
            client.settimeout(30)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while head := _read_head(client):
                if not self._exchange(client, head, run):
                    return

    def _count(self, fault: str) -> None:
        with self._lock:
            self.faults[fault] += 1

    def _draw(self) -> tuple[str, random.Random]:
        with self._lock:
            rng = random.Random(self.rng.getrandbits(64))
        if rng.random() >= self.weather.faults:
            return "", rng
        table = DEADLY if rng.random() < 0.6 else HARMLESS
        return rng.choices(list(table), list(table.values()))[0], rng

    # -- one question ------------------------------------------------------------------------------------------------

    def _exchange(self, client: socket.socket, head: bytes, run: int) -> bool:
        """Let one request pass, or not; True where the connection may go on."""
        fault, rng = self._draw()
        post = Post(run, fault=fault)
        asking = head.startswith(b"POST ")
        with self._lock:
            self.gets += not asking
            if asking:
                self.posts.append(post)
            if fault:
                self.faults[fault] += 1
        start, length = time.monotonic(), _length(head)
        if fault == "request reset":
            _read(client, rng.randint(0, max(0, length - 1)))
            return _reset(client)
        body = _read(client, length)
        post.image = hashlib.sha256(body).hexdigest() if asking else ""
        with self._lock:
            self.arrived += asking
        try:
            return self._pass_on(client, head + body, post, rng)
        finally:
            post.seconds = time.monotonic() - start
            with self._lock:
                self.delivered += asking

    def _pass_on(self, client: socket.socket, request: bytes, post: Post, rng: random.Random) -> bool:
        fault = post.fault
        if post.image:
            self.hold()
        longest = {"delay": 0.2, "long delay": 0.9}.get(fault, 0.0) * self.timeout
        time.sleep(self.weather.latency * rng.uniform(0.2, 2) + rng.uniform(0, longest))
        if fault == "request cut":
            with socket.create_connection(self.server, 30) as server:
                server.sendall(request[: rng.randrange(len(request))])
            return _reset(client)
        if fault == "request late":
            late = self.timeout + rng.uniform(0, self.lateness)
            _wait_for_end(client, late)
            start = time.monotonic()
            self._ended.wait(rng.uniform(0, self.lateness))
            if time.monotonic() - start < 2 * self.lateness:
                self._ask_server(request, post)
            return False
        answer = self._ask_server(request, post)
        if fault == "answer dropped":
            return _reset(client) if rng.random() < 0.5 else False
        if fault == "silence":
            _wait_for_end(client, 30)
            return False
        if fault == "answer truncated":
            client.sendall(answer[: rng.randrange(len(answer))])
            return _reset(client) if rng.random() < 0.5 else False
        if fault == "answer in drips":
            for piece in (answer[i : i + 64] for i in range(0, len(answer), 64)):
                client.sendall(piece)
                time.sleep(self.timeout / 100)
        else:
            client.sendall(answer)
        post.delivered = True
        return self._close_when_idle(client) if fault == "closed when idle" else True

    def _close_when_idle(self, client: socket.socket) -> bool:
        """Hang up between two questions. One that was on its way by then is lost, and counted."""
        client.shutdown(socket.SHUT_WR)
        head = _read_head(client)
        if head.startswith(b"POST "):
            with self._lock:
                self.posts.append(Post(self.run, fault="closed when idle"))
        return False

    def _ask_server(self, request: bytes, post: Post) -> bytes:
        """The server's whole answer, and a line in the log."""
        with socket.create_connection(self.server, 30) as server:
            server.sendall(request)
            head = _read_head(server)
            body = _read(server, _length(head))
        status = int(head.split(b" ", 2)[1])
        with self._lock:
            self.statuses[status] += 1
            if post.image and status == 200:
                self.answers[post.image] = json.loads(body)["scores"]
        return head + body


def _read_head(connection: socket.socket) -> bytes:
    """A request or answer up to its empty line, and not a byte more; empty where the other side hung up."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        seen = connection.recv(4096, socket.MSG_PEEK)
        if not seen:
            return b""
        end = (head + seen).find(b"\r\n\r\n")
        head += connection.recv(len(seen) if end < 0 else end + 4 - len(head))
    return head


def _read(connection: socket.socket, length: int) -> bytes:
    """So many bytes. Raises `ConnectionError` where the other side ends earlier."""
    body = bytearray()
    while len(body) < length:
        piece = connection.recv(min(65536, length - len(body)))
        if not piece:
            raise ConnectionError("it ended early")
        body += piece
    return bytes(body)


def _length(head: bytes) -> int:
    lines = head.decode("latin-1").lower().split("\r\n")
    return next((int(line.partition(":")[2]) for line in lines if line.startswith("content-length:")), 0)


def _reset(connection: socket.socket) -> bool:
    """Hang up with an RST; what was not read yet is lost."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    return False


def _wait_for_end(connection: socket.socket, seconds: float) -> None:
    """Until the other side hangs up."""
    connection.settimeout(seconds)
    with contextlib.suppress(OSError):
        connection.recv(1)
