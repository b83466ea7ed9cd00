"""The HTTP transport against real sockets: every failure says whether the query may have been counted."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pi_agent.contract.answers import BadAnswer, ServerBudget, parse_scores
from pi_agent.transports.base import (
    Failed,
    Garbled,
    ImageRefused,
    LockOut,
    NotSent,
    Throttled,
    TransportError,
    Unauthorised,
)
from pi_agent.transports.http import HttpTransport
from pi_agent.transports.limits import MAX_WAIT
from tests.support_hostile import GOOD, USELESS, Behaviour, Hostile, answer, hostile, keep_saying, reply, say

JPEG = b"\xff\xd8 as good as any"
MEANING: dict[type[TransportError], tuple[int, ...]] = {
    Unauthorised: (401,),
    LockOut: (403,),
    ImageRefused: (413, 415, 422),
    Throttled: (429,),
    Failed: (500, 503),
    Garbled: (204, 302, 400, 404),
}
LIMITS = ("RateLimit-Limit: 9", "RateLimit-Remaining: 7", "RateLimit-Reset: 60")


def ask(behaviour: Behaviour, timeout: float = 10.0) -> ServerBudget | None:
    """One question to an oracle that behaves like this."""
    with hostile(behaviour) as server:
        transport = HttpTransport(server.url, None, timeout)
        try:
            return transport.ask(JPEG).server
        finally:
            transport.close()
            assert server.requests == ["POST /v1/classify"], "never repeated, never redirected"


def test_a_good_answer_comes_back_with_what_is_left() -> None:
    assert ask(keep_saying(reply(200, GOOD, *LIMITS))) == ServerBudget(7, 60.0)
    assert ask(keep_saying(reply(200, GOOD))) is None


@pytest.mark.parametrize("name", USELESS)
def test_a_useless_answer_is_an_error_and_ends(name: str) -> None:
    with pytest.raises((Failed, Garbled, BadAnswer)), hostile(USELESS[name]) as server:
        parse_scores(HttpTransport(server.url, None, 1.0).ask(JPEG).payload)


@pytest.mark.parametrize(
    ("status", "error"),
    [(s, error) for error, statuses in MEANING.items() for s in statuses],
)
def test_each_status_has_its_meaning(status: int, error: type[TransportError]) -> None:
    with pytest.raises(error) as caught:
        ask(keep_saying(reply(status, b"" if status == 204 else b'{"error": "no\\u001b[2J"}', *LIMITS)))
    assert caught.value.server == ServerBudget(7, 60.0)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("until", "moment"),
    [
        ("2026-11-22T00:00:00Z", 1795305600.0),
        ("2026-11-22T00:00:00", 1795305600.0),
        ("2026-11-22T01:00:00+01:00", 1795305600.0),
        ("tomorrow", None),
        (None, None),
        ([1], None),
    ],
)
def test_a_lock_out_says_until_when_if_it_can_be_read(until: object, moment: float | None) -> None:
    with pytest.raises(LockOut) as caught:
        ask(keep_saying(reply(403, json.dumps({"until": until}).encode())))
    assert caught.value.until == moment


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7.0), ("0", 60.0), ("soon", 60.0), ("-3", 60.0), ("nan", 60.0), ("1e300", MAX_WAIT)]
)
def test_retry_after_is_always_a_sane_number(header: str, seconds: float) -> None:
    with pytest.raises(Throttled) as caught:
        ask(keep_saying(reply(429, b"{}", f"Retry-After: {header}")))
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize("header", ["", "RateLimit-Remaining: 5", "RateLimit-Remaining: x", "RateLimit-Remaining: inf"])
def test_rate_limits_that_cannot_be_read_say_nothing(header: str) -> None:
    assert ask(keep_saying(reply(200, GOOD, *([header] if header else [])))) is None


def test_only_a_connection_that_never_was_is_not_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}", "http://no-such-host.invalid", "http://127.0.0.1:70000"):
        with pytest.raises(NotSent):
            HttpTransport(url, None, 5.0).ask(JPEG)
    with pytest.raises(Failed):
        ask(say(b""))


def test_the_key_goes_to_the_oracle_and_nobody_elses_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with hostile(keep_saying(answer(0.5, 0.5))) as server:
        HttpTransport(server.url, "secret", 10.0).ask(JPEG)
        HttpTransport(server.url, None, 10.0).ask(JPEG)
    assert server.keys == {"Bearer secret", None}


def test_a_connection_is_used_again_and_replaced_when_it_is_gone() -> None:
    with hostile(keep_saying(answer(0.5, 0.5))) as server:
        transport = HttpTransport(server.url, None, 10.0)
        assert [transport.ask(JPEG).payload["scores"] for _ in range(3)] == [[0.5, 0.5]] * 3
        assert server.connections == 1

    closing = say(reply(200, GOOD, "Connection: keep-alive"))  # promises to stay and hangs up
    with hostile(closing) as server:
        transport = HttpTransport(server.url, None, 10.0)
        for _ in range(3):
            transport.ask(JPEG)
            time.sleep(0.05)  # until the kernel knows
        assert (server.asked, server.connections) == (3, 3)


def test_a_probe_costs_nothing_and_tells_the_time() -> None:
    with hostile(keep_saying(b"")) as server:
        before = time.time()
        probe = HttpTransport(server.url, None, 10.0).probe()
        assert server.requests == ["GET /v1/quota"]
    assert probe.date is not None and before - 1 <= probe.date <= time.time()
    assert probe.server is None


@pytest.fixture(scope="module")
def parrot() -> Iterator[tuple[Hostile, list[bytes]]]:
    """An oracle that says what the test puts into the list."""
    said = [b""]

    def behave(connection: socket.socket, number: int) -> None:
        connection.sendall(said[0])
        connection.shutdown(socket.SHUT_RDWR)

    with hostile(behave) as server:
        yield server, said


heads = st.sampled_from(["HTTP/1.1 200 OK", "HTTP/1.1 403 No", "HTTP/1.1 429 No", "HTTP/1.0 200", ""])
names = ("Date", "RateLimit-Remaining", "RateLimit-Reset", "Retry-After", "Content-Encoding", "Content-Length", "X")
values = st.one_of(st.text(max_size=12), st.sampled_from(["gzip", "5", "-5", "1e400", "chunked"]))
headers = st.lists(st.builds(lambda n, v: f"{n}: {v}\r\n", st.sampled_from(names), values), max_size=5).map("".join)
bodies = st.one_of(st.binary(max_size=40), st.just(GOOD), st.just(b'{"until": "9999-12-31T23:59:59-12:00"}'))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(heads, headers, bodies)
def test_no_bytes_at_all_bring_anything_but_an_answer_or_a_transport_error(
    parrot: tuple[Hostile, list[bytes]], head: str, lines: str, body: bytes
) -> None:
    server, said = parrot
    said[0] = f"{head}\r\n{lines}\r\n".encode("utf-8", "replace") + body
    transport = HttpTransport(server.url, None, 5.0)
    try:
        assert isinstance(transport.ask(JPEG).payload, dict)
    except TransportError as exc:
        assert str(exc)
    finally:
        transport.close()
