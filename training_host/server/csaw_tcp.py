"""The CSAW TCP door: one query per connection, in lines of text around one raw picture.

    server  Magpie oracle; Date: Sat, 21 Nov 2026 03:00:00 GMT
    client  KEY
    server  access granted; Classes: 12; RateLimit-Limit: 700; RateLimit-Remaining: 699; RateLimit-Reset: 300
    client  270,000 bytes, 300 rows of 300 RGB pixels
    server  battery: 0.0123456791
            ...
            white-glass: 0.5

What is left is told before the query, so a client whose quota is empty can still turn back. A refusal is one line in
place of any of the server's; the connection ends after it. A picture that arrives in part is not counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from email.utils import formatdate

import numpy as np
from starlette.concurrency import run_in_threadpool

from pi_agent.contract.answers import as_json_list
from pi_agent.contract.errors import RefusedModel
from pi_agent.contract.images import SIDE
from training_host.server.metrics import Metrics
from training_host.server.service import Refusal, Service, locked_out

PICTURE_BYTES = SIDE * SIDE * 3
MAX_CONNECTIONS = 256
MAX_KEY_BYTES = 8192
HANDSHAKE_SECONDS = 10.0
"""How long the key may take to arrive."""
PICTURE_SECONDS = 30.0
"""How long a picture may take to arrive: a slow one must not hold its place for ever."""
WRITE_SECONDS = 10.0
LINGER_SECONDS = 2.0
"""How long the last line may take to be fetched: closing on unread input would destroy it on its way."""

_WORDS = {401: "denied", 403: "refused", 429: "busy"}
_log = logging.getLogger(__name__)


class TcpDoor:
    """The door for `service` on a listening socket. Everything happens in the event loop that calls `start`.

    The loop only moves bytes; SQLite and the model run in threads. Raises `RefusedModel` (65) for class names that do
    not fit into a line.
    """

    def __init__(self, service: Service, metrics: Metrics, listener: socket.socket) -> None:
        if not all(c == c.strip() and c.isprintable() and 0 < len(c) <= 200 for c in service.predictor.classes):
            reason = "a class name is no single line of text"
            raise RefusedModel(path=service.predictor.folder, reason=reason, hint="serve it without --tcp-port")
        self._service, self._metrics, self._listener = service, metrics, listener
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._admitted: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Accept connections from now on."""
        self._server = await asyncio.start_server(self._accept, sock=self._listener, limit=MAX_KEY_BYTES)

    async def stop(self, seconds: float) -> None:
        """Accept nothing more, and let those whose key was accepted have their answer, at most `seconds` long."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks - self._admitted:
            task.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=seconds)
            for task in late:
                task.cancel()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= MAX_CONNECTIONS:
            writer.write(b"busy: too many connections; Retry-After: 1\n")
            writer.close()
            self._metrics.requests.labels("503").inc()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection from banner to end; whatever happens on it ends here."""
        began, status = time.perf_counter(), 500
        writer.transport.set_write_buffer_limits(0)  # so that `drain` means: the kernel has it
        try:
            try:
                status = await self._talk(reader, writer)
            except Refusal as refusal:
                status = refusal.status
                await _say(writer, _refusal_line(refusal))
            except (OSError, asyncio.IncompleteReadError):
                status = 400  # the connection ended before the query did; nobody reads an answer
            except Exception:
                _log.exception("a query over TCP failed")
                await _say(writer, "error: internal error; the query may have been counted")
            await _farewell(reader, writer)
        except OSError:
            pass  # the client went before its last line came
        finally:
            self._admitted.discard(_this_task())
            self._metrics.requests.labels(str(status)).inc()
            self._metrics.seconds.observe(time.perf_counter() - began)
            writer.transport.abort()  # what could be delivered was delivered

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        """The dialogue. Returns the status for the metrics. Raises `Refusal`, or `OSError` if the client has gone."""
        service = self._service
        await _say(writer, f"Magpie oracle; Date: {formatdate(service.clock(), usegmt=True)}")
        client = service.identify_key(await _read_key(reader))
        with service.places.taken_by(client):
            self._admitted.add(_this_task())
            await _say(writer, await run_in_threadpool(self._greeting, client))
            raw = await _read_picture(reader)
            if raw is None:
                return 200  # somebody who only wanted to know what is left
            pixels = np.frombuffer(raw, np.uint8).reshape(SIDE, SIDE, 3)
            scores = await run_in_threadpool(service.classify_pixels, client, pixels)
        self._metrics.predictions.inc()
        pairs = zip(service.predictor.classes, as_json_list(scores), strict=True)
        await _say(writer, *(f"{name}: {score!r}" for name, score in pairs))
        return 200

    def _greeting(self, client: str) -> str:
        """What a welcome client is told. Raises `Refusal` 403; it is not noted, for nothing was asked yet."""
        standing, seconds = self._service.standing(client)
        if standing.locked_until is not None:
            raise locked_out(standing)
        return (
            f"access granted; Classes: {len(self._service.predictor.classes)}; RateLimit-Limit: {standing.limit}; "
            f"RateLimit-Remaining: {standing.remaining}; RateLimit-Reset: {seconds}"
        )


async def _read_key(reader: asyncio.StreamReader) -> str:
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            line = await reader.readuntil(b"\n")
    except TimeoutError as exc:
        raise Refusal(408, f"the key did not arrive within {HANDSHAKE_SECONDS:g} s") from exc
    except asyncio.LimitOverrunError as exc:
        raise Refusal(401, "that is no key") from exc
    return line.decode("utf-8", "replace").strip()


async def _read_picture(reader: asyncio.StreamReader) -> bytes | None:
    """The whole picture, or None for a client that hangs up instead of sending one."""
    try:
        async with asyncio.timeout(PICTURE_SECONDS):
            return await reader.readexactly(PICTURE_BYTES)
    except TimeoutError as exc:
        raise Refusal(408, f"not counted: the picture did not arrive within {PICTURE_SECONDS:g} s") from exc
    except asyncio.IncompleteReadError as exc:
        if exc.partial:
            raise
        return None


async def _say(writer: asyncio.StreamWriter, *lines: str) -> None:
    """Send lines. Raises `OSError`, also for a client that does not fetch them in time."""
    writer.write("".join(f"{line}\n" for line in lines).encode())
    async with asyncio.timeout(WRITE_SECONDS):  # its TimeoutError is an OSError
        await writer.drain()


async def _farewell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """End our side, and wait a little until the client has ended its own."""
    if writer.is_closing():
        return
    writer.write_eof()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while await reader.read(65536):
                pass


def _refusal_line(refusal: Refusal) -> str:
    line = f"{_WORDS.get(refusal.status, 'error')}: {refusal}"
    if "until" in refusal.body:
        line += f"; until {refusal.body['until']}"
    return line + "; Retry-After: 1" if refusal.status == 429 else line


def _this_task() -> asyncio.Task[None]:
    task = asyncio.current_task()
    assert task is not None
    return task
