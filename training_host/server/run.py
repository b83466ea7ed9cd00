"""Run the doors: sockets of our own, readiness told when it is true, a stop that is a normal end."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from pi_agent.contract.errors import CannotCreate
from training_host.server.csaw_tcp import TcpDoor

MAX_HEADER_BYTES = 16 * 1024
MAX_CONNECTIONS = 256
KEEP_ALIVE_SECONDS = 75
STOP_SECONDS = 15
"""How long answers in flight may take after the order to stop."""


class _Server(uvicorn.Server):
    """A uvicorn server that opens and closes another door with its own, and says when it accepts connections."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], door: TcpDoor | None) -> None:
        super().__init__(config)
        self._ready, self._door = ready, door

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self._door is not None:
            await self._door.start()
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        ends = [super().shutdown(sockets=sockets)]
        if self._door is not None:
            ends.append(self._door.stop(STOP_SECONDS))
        await asyncio.gather(*ends)


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 picks a free one. Raises `CannotCreate` (73)."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=MAX_CONNECTIONS)
    except (OSError, UnicodeError) as exc:
        raise CannotCreate(
            path=f"a listener on {host}:{port}",
            reason=getattr(exc, "strerror", None) or str(exc),
            hint="choose another --host, --port or --tcp-port; port 0 takes a free one",
        ) from exc
    # Inherited by its connections. asyncio does this only for sockets that name their protocol, and those of
    # `create_server` do not; without it the body of an answer waits 40 ms for the client to acknowledge its head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def url_of(listener: socket.socket, scheme: str = "http") -> str:
    """The base URL under which clients on this machine reach the socket."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def run_server(app: ASGIApp, listener: socket.socket, ready: Callable[[], None], door: TcpDoor | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then finish the answers in flight. Call it in the main thread.

    `ready` is called once connections are accepted. `door` runs in the same event loop.
    """
    server = _Server(
        uvicorn.Config(
            app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,  # uvicorn's warnings go where our own log goes
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        ),
        ready,
        door,
    )

    def stop(signum: int, frame: FrameType | None) -> None:
        server.should_exit = True

    # uvicorn takes the signals while it runs and afterwards raises them again for whoever had them before. That is us,
    # for whom a stop is the normal end; and before uvicorn has them, ours make it stop as soon as it has started.
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        listener.close()
