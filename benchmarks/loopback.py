"""The other side of `agent.py`, in processes of their own: the cheapest oracle, and the barest client.

python benchmarks/loopback.py serve                      prints its address
python benchmarks/loopback.py ask URL FOLDER THREADS     posts every .jpg under FOLDER; prints seconds as JSON
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from email.utils import formatdate
from pathlib import Path

import requests

_SCORES = json.dumps({"classes": [f"class-{i:02}" for i in range(12)], "scores": [0.45] + [0.05] * 11}).encode()


class Oracle(asyncio.Protocol):
    """Keep-alive, one fixed answer, no parsing beyond the length of the body."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to answer."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._waiting += data
        while (end := self._waiting.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._waiting[:end]).lower()
            _, _, after = head.partition(b"content-length:")
            whole = end + 4 + int(after.partition(b"\r\n")[0] or 0)
            if len(self._waiting) < whole:
                return
            del self._waiting[:whole]
            lines = (
                "HTTP/1.1 200 OK",
                f"Date: {formatdate(usegmt=True)}",
                "Content-Type: application/json",
                f"Content-Length: {len(_SCORES)}",
                "RateLimit-Limit: 1000000",
                "RateLimit-Remaining: 1000000",
                "RateLimit-Reset: 80000",
            )
            self._transport.write("\r\n".join(lines).encode() + b"\r\n\r\n" + _SCORES)


async def serve() -> None:
    """Until killed."""
    server = await asyncio.get_running_loop().create_server(Oracle, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def ask(url: str, folder: Path, threads: int) -> dict[str, float]:
    """Post every picture, each thread its share over one session; seconds on the clock and of the processor."""
    pictures = [path.read_bytes() for path in sorted(folder.rglob("*.jpg"))]

    def work(mine: list[bytes]) -> None:
        with requests.Session() as session:
            for jpeg in mine:
                answer = session.post(f"{url}/v1/classify", data=jpeg, headers={"Content-Type": "image/jpeg"})
                answer.raise_for_status()
                answer.json()

    workers = [threading.Thread(target=work, args=(pictures[n::threads],)) for n in range(threads)]
    wall, cpu = time.perf_counter(), time.process_time()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve())
    else:
        print(json.dumps(ask(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))))
