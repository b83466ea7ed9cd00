"""A real `train-host serve` in a process of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import requests

from tests.support import query_jpeg

KEY = "0123456789abcdef0123456789abcdef"
JPEG = {"Content-Type": "image/jpeg"}


def start(*arguments: object) -> subprocess.Popen[str]:
    """Start `train-host serve` with these arguments."""
    python = os.environ.get("MAGPIE_HOST_PYTHON", sys.executable)  # servers do not run on an emulated Pi
    line = [python, "-m", "training_host", "serve", *map(str, arguments)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@dataclasses.dataclass(frozen=True)
class Served:
    """A server that is ready."""

    url: str
    process: subprocess.Popen[str]
    tcp_url: str = ""

    def door(self, protocol: str) -> str:
        """The address of the door for `http` or `csaw-tcp`; the latter wants `--tcp-port 0`."""
        return {"http": self.url, "csaw-tcp": self.tcp_url}[protocol]

    @contextlib.contextmanager
    def knocking(self) -> Iterator[socket.socket]:
        """A bare connection to the TCP door."""
        host, port = self.tcp_url.removeprefix("tcp://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            yield connection

    def ask(
        self, jpeg: bytes | None = None, key: str | None = None, headers: dict[str, str] | None = None
    ) -> requests.Response:
        """One classification."""
        bearer = {"Authorization": f"Bearer {key}"} if key else {}
        body = query_jpeg() if jpeg is None else jpeg
        return requests.post(f"{self.url}/v1/classify", body, headers=JPEG | bearer | (headers or {}), timeout=30)

    def quota(self, key: str | None = None) -> requests.Response:
        """What is left."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return requests.get(f"{self.url}/v1/quota", headers=headers, timeout=30)

    @contextlib.contextmanager
    def posting(self, announced: int, sent: bytes = b"") -> Iterator[socket.socket]:
        """A bare connection with the head of a classification and the first bytes of its body: a very slow client."""
        host, port = self.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            head = (
                f"POST /v1/classify HTTP/1.1\r\nHost: {host}\r\nContent-Type: image/jpeg\r\nContent-Length: {announced}"
            )
            connection.sendall(head.encode() + b"\r\n\r\n" + sent)
            yield connection


@contextlib.contextmanager
def serving(model: Path, *arguments: object) -> Iterator[Served]:
    """A server on a free port for the length of the block."""
    process = start(model, "--port", 0, "--json", *arguments)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        ready = json.loads(line)
        assert (ready["schema"], ready["pid"]) == ("serve/1", process.pid)
        yield Served(ready["url"], process, ready.get("tcp_url", ""))
    finally:
        process.terminate()
        process.communicate(timeout=30)
