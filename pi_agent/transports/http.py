"""The HTTP oracle: `POST /v1/classify` with a raw JPEG, `GET /v1/quota` for clock and quota, or as `[http]` says."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from pi_agent import __version__
from pi_agent.contract.answers import BadAnswer
from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.files import parse_json
from pi_agent.http_config import HttpConfig
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
from pi_agent.transports.limits import date_of, retry_after, server_budget, until_of
from pi_agent.transports.mapping import read_payload, request_body, request_headers

MAX_ANSWER_BYTES = 1024 * 1024
_CONNECT_SECONDS = 10.0


def _no_other_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keeps requests from looking for credentials of its own (`~/.netrc`): ours stand in the headers."""
    return request


class _Adapter(HTTPAdapter):
    """Remembers the socket in use: a timer can then cut it, whatever is waiting for it.

    The timeouts of requests hold for each read alone; an oracle that drips one byte a second would never meet them.
    """

    def __init__(self, **options: Any) -> None:
        self._line: socket.socket | None = None
        self._exchange = 0
        self._guard = threading.Lock()
        super().__init__(**options)

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
        timer = threading.Timer(seconds, self._cut, (self._exchange,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            with self._guard:  # a timer that is late must not cut the next exchange on the same line
                self._exchange += 1

    def _cut(self, exchange: int) -> None:
        with self._guard, contextlib.suppress(OSError):  # it ended by itself
            if exchange == self._exchange and self._line is not None:
                socket.socket.shutdown(self._line, socket.SHUT_RDWR)  # of TLS too: under it, without its farewell


class HttpTransport:
    """One keep-alive connection to one oracle; `timeout` in seconds bounds a whole answer.

    One thread at a time may use it; any number of them work side by side. Raises `ConfigError` (78) where a header
    wants a key and there is none.
    """

    def __init__(self, url: str, api_key: str | None, timeout: float, http: HttpConfig | None = None) -> None:
        self.url = url.rstrip("/")
        self._timeout = timeout
        self._http = http or HttpConfig()
        self._headers = CaseInsensitiveDict(request_headers(self._http, api_key))
        self._session = requests.Session()
        self._session.auth = _no_other_credentials
        self._session.headers["User-Agent"] = f"pi-agent/{__version__}"
        self._adapter = _Adapter(max_retries=0, pool_maxsize=1)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, self._adapter)

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def ask(self, jpeg: bytes) -> Reply:
        """Send one image. See `base.TransportError` for what can be raised."""
        response, body = self._exchange(self._http.method, self.url + self._http.path, *request_body(self._http, jpeg))
        server = server_budget(response.headers, self._http)
        status, said = response.status_code, f"HTTP {response.status_code}"
        if status == 200:
            try:
                return Reply(read_payload(self._http, body), server)
            except BadAnswer as exc:
                raise Garbled(str(exc), server) from exc
        if status == 401:
            raise Unauthorised(said, server)
        if status == 403:
            raise LockOut(said, until_of(_error_body(body).get("until")), server)
        if status == 429:
            raise Throttled(said, retry_after(response.headers), server)
        if status in (413, 415, 422):
            raise ImageRefused(f"{said}: {_message(body)}", server)
        if status >= 500:
            raise Failed(said, server)
        raise Garbled(f"{said} is not an answer of this protocol", server)

    def probe(self) -> Probe:
        """GET the page of clock and quota; an oracle without it still tells the time in its `Date` header.

        Where the configuration names no such page, `HEAD /` tells the time, and nothing else it says concerns us.
        """
        if not self._http.probe:
            response, _ = self._exchange("HEAD", urljoin(self.url, "/"))
            return Probe(date_of(response.headers), None)
        response, body = self._exchange("GET", self.url + self._http.probe)
        if response.status_code == 401:
            raise Unauthorised("HTTP 401")
        if response.status_code == 403:
            raise LockOut("HTTP 403", until_of(_error_body(body).get("until")))
        return Probe(date_of(response.headers), server_budget(response.headers, self._http))

    def _exchange(
        self, method: str, url: str, body: bytes | None = None, content_type: str | None = None
    ) -> tuple[requests.Response, bytes]:
        """One request, one bounded answer. A slow drip of bytes ends at the deadline, a flood at the size limit."""
        late = Failed(f"no complete answer within {self._timeout:g} s")
        deadline = time.monotonic() + self._timeout
        headers: CaseInsensitiveDict[str | None] = CaseInsensitiveDict({"Content-Type": content_type})
        headers.update({n: v for n, v in self._headers.items() if body is not None or n.lower() != "content-type"})
        try:
            with (
                self._adapter.cut_after(self._timeout),
                self._session.request(
                    method,
                    url,
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


def _error_body(body: bytes) -> dict[str, Any]:
    try:
        return parse_json(body, "the answer")
    except RefusedInput:
        return {}


def _message(body: bytes) -> str:
    said = str(_error_body(body).get("error", "no reason given"))[:200]
    return "".join(c if c.isprintable() else "?" for c in said)  # it goes into logs
