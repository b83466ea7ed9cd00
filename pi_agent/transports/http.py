"""The HTTP oracle: `POST /v1/classify` with a raw JPEG, `GET /v1/quota` for clock and quota."""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from pi_agent import __version__
from pi_agent.contract.answers import ServerBudget
from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.files import parse_json
from pi_agent.transports.base import (
    Failed,
    Garbled,
    ImageRefused,
    LockOut,
    NotSent,
    Probe,
    Reply,
    Throttled,
    Unauthorised,
)

MAX_ANSWER_BYTES = 1024 * 1024
MAX_WAIT = 366 * 24 * 60 * 60.0
"""Longest `Retry-After` that is believed, in seconds."""
_CONNECT_SECONDS = 10.0


class _Bearer(requests.auth.AuthBase):
    """Sets the header itself, so that requests never looks for other credentials (`~/.netrc`)."""

    def __init__(self, key: str | None) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key is not None:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


class _Adapter(HTTPAdapter):
    """Remembers the socket in use: a timer can then cut it, whatever is waiting for it.

    The timeouts of requests hold for each read alone; an oracle that drips one byte a second would never meet them.
    """

    _line: socket.socket | None = None

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        make = type(pool).ConnectionCls

        def remembering(*args: Any, **kwargs: Any) -> Any:
            connection = make(*args, **kwargs)
            connect = connection.connect

            def connect_and_remember() -> None:
                connect()
                self._line = connection.sock

            connection.connect = connect_and_remember
            return connection

        pool.ConnectionCls = remembering
        return pool

    @contextlib.contextmanager
    def cut_after(self, seconds: float) -> Iterator[None]:
        """The block's exchange fails when it takes longer than `seconds`."""
        timer = threading.Timer(seconds, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _cut(self) -> None:
        if self._line is not None:
            with contextlib.suppress(OSError):  # it ended by itself
                socket.socket.shutdown(self._line, socket.SHUT_RDWR)  # of TLS too: under it, without its farewell


class HttpTransport:
    """One keep-alive connection to one oracle; `timeout` in seconds bounds a whole answer."""

    def __init__(self, url: str, api_key: str | None, timeout: float) -> None:
        self.url = url.rstrip("/")
        self._timeout = timeout
        self._session = requests.Session()
        self._session.auth = _Bearer(api_key)
        self._session.headers["User-Agent"] = f"pi-agent/{__version__}"
        self._adapter = _Adapter(max_retries=0, pool_maxsize=1)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, self._adapter)

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def ask(self, jpeg: bytes) -> Reply:
        """POST one image. See `base.TransportError` for what can be raised."""
        response, body = self._exchange("POST", "/v1/classify", jpeg)
        server = _server_budget(response)
        status, said = response.status_code, f"HTTP {response.status_code}"
        if status == 200:
            try:
                return Reply(parse_json(body, "the answer"), server)
            except RefusedInput as exc:
                raise Garbled(str(exc.fields["reason"]), server) from exc
        if status == 401:
            raise Unauthorised(said, server)
        if status == 403:
            raise LockOut(said, _until(body), server)
        if status == 429:
            raise Throttled(said, _retry_after(response), server)
        if status in (413, 415, 422):
            raise ImageRefused(f"{said}: {_message(body)}", server)
        if status >= 500:
            raise Failed(said, server)
        raise Garbled(f"{said} is not an answer of this protocol", server)

    def probe(self) -> Probe:
        """GET the quota; an oracle without that page still tells the time in its `Date` header."""
        response, body = self._exchange("GET", "/v1/quota", None)
        if response.status_code == 401:
            raise Unauthorised("HTTP 401")
        if response.status_code == 403:
            raise LockOut("HTTP 403", _until(body))
        return Probe(_date(response), _server_budget(response))

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[requests.Response, bytes]:
        """One request, one bounded answer. A slow drip of bytes ends at the deadline, a flood at the size limit."""
        late = Failed(f"no complete answer within {self._timeout:g} s")
        deadline = time.monotonic() + self._timeout
        headers = {"Content-Type": "image/jpeg"} if body is not None else {}
        try:
            with (
                self._adapter.cut_after(self._timeout),
                self._session.request(
                    method,
                    self.url + path,
                    data=body,
                    headers=headers,
                    timeout=(min(_CONNECT_SECONDS, self._timeout), self._timeout),
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
                content = bytearray()
                for chunk in response.iter_content(16384):
                    content += chunk
                    if len(content) > MAX_ANSWER_BYTES:
                        raise Garbled(f"an answer of more than {MAX_ANSWER_BYTES // 1024} KiB")
        except requests.exceptions.RequestException as exc:
            if _never_connected(exc):
                raise NotSent(_root_reason(exc)) from exc
            raise late if time.monotonic() >= deadline else Failed(_root_reason(exc)) from exc
        if time.monotonic() >= deadline:
            raise late  # a cut connection and an answer without a length look the same
        return response, bytes(content)


def _never_connected(exc: BaseException) -> bool:
    """True only where urllib3 says that there was no connection at all, so no byte can have left."""
    reason = getattr(exc.args[0] if exc.args else None, "reason", None)
    certain = (NewConnectionError, ConnectTimeoutError, NameResolutionError)
    return isinstance(reason, certain) or isinstance(
        exc, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema | requests.exceptions.InvalidHeader
    )


def _root_reason(exc: BaseException) -> str:
    inner = getattr(exc.args[0] if exc.args else None, "reason", None) or exc
    text = str(inner).split(": ", 1)[-1] if isinstance(inner, NewConnectionError) else str(inner)
    return text[:200] or type(exc).__name__


def _server_budget(response: requests.Response) -> ServerBudget | None:
    remaining = _number(response.headers.get("RateLimit-Remaining"))
    reset = _number(response.headers.get("RateLimit-Reset"))
    if remaining is None or reset is None:
        return None
    return ServerBudget(int(min(remaining, 1e9)), min(reset, 1e9))


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _date(response: requests.Response) -> float | None:
    try:
        moment = parsedate_to_datetime(response.headers.get("Date", ""))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _retry_after(response: requests.Response) -> float:
    return min(_number(response.headers.get("Retry-After")) or 60.0, MAX_WAIT)


def _error_body(body: bytes) -> dict[str, Any]:
    try:
        return parse_json(body, "the answer")
    except RefusedInput:
        return {}


def _message(body: bytes) -> str:
    said = str(_error_body(body).get("error", "no reason given"))[:200]
    return "".join(c if c.isprintable() else "?" for c in said)  # it goes into logs


def _until(body: bytes) -> float | None:
    try:
        moment = datetime.fromisoformat(str(_error_body(body).get("until")))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
