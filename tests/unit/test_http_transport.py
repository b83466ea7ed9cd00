"""The HTTP transport against real sockets: every failure says whether the query may have been counted."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pi_agent.contract.answers import BadAnswer, ServerBudget, parse_answer, parse_scores
from pi_agent.contract.errors import ConfigError
from pi_agent.http_config import HttpConfig
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
from tests.support_foreign import Request, foreign
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


NOON = "Sat, 21 Nov 2026 12:00:00 GMT"


def ask(behaviour: Behaviour, http: HttpConfig | None = None) -> ServerBudget | None:
    """One question to an oracle that behaves like this."""
    with hostile(behaviour) as server:
        transport = HttpTransport(server.url, None, 10.0, http)
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


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("Sat, 21 Nov 2026 12:02:00 GMT", 120.0),
        ("Saturday, 21-Nov-26 12:02:00 GMT", 120.0),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 60.0),
        ("Sat, 21 Nov 9999 12:00:00 GMT", MAX_WAIT),
        ("Sat, 99 Nov 2026 12:00:00 GMT", 60.0),
    ],
)
def test_retry_after_may_be_a_date_and_counts_on_the_oracles_clock(header: str, seconds: float) -> None:
    with pytest.raises(Throttled) as caught:
        ask(keep_saying(reply(429, b"{}", f"Retry-After: {header}", date=NOON)))
    assert caught.value.retry_after == seconds


X_LIMITS = HttpConfig(remaining_header="X-RateLimit-Remaining", reset_header="X-RateLimit-Reset")


@pytest.mark.parametrize(
    ("http", "headers", "budget"),
    [
        (None, ["RateLimit: limit=9, remaining=7, reset=60"], ServerBudget(7, 60.0)),
        (None, ['RateLimit: "day";r=7;t=60'], ServerBudget(7, 60.0)),
        (None, ['RateLimit: "minute";r=1;t=9, "day";r=7;t=3600, "r=3";t=5'], ServerBudget(7, 3600.0)),
        (None, ["RateLimit: remaining=7"], None),
        (None, ["RateLimit: remaining=x, reset=y"], None),
        (None, [*LIMITS, "RateLimit: remaining=1, reset=1"], ServerBudget(7, 60.0)),
        (None, ["RateLimit-Remaining: 7", "RateLimit-Reset: 1795262460"], ServerBudget(7, 60.0)),
        (None, ["RateLimit-Remaining: 7", "RateLimit-Reset: 1795262300"], ServerBudget(7, 0.0)),
        (None, ["X-RateLimit-Remaining: 7", "X-RateLimit-Reset: 60"], None),
        (X_LIMITS, ["X-RateLimit-Remaining: 7", "X-RateLimit-Reset: 60"], ServerBudget(7, 60.0)),
        (X_LIMITS, ["x-ratelimit-remaining: 7", "x-ratelimit-reset: 1795262460"], ServerBudget(7, 60.0)),
        (X_LIMITS, [*LIMITS, "RateLimit: remaining=1, reset=1"], None),
        (HttpConfig(remaining_header=""), [*LIMITS, "RateLimit: remaining=1, reset=1"], None),
    ],
)
def test_what_is_left_is_read_from_the_headers_that_are_named(
    http: HttpConfig | None, headers: list[str], budget: ServerBudget | None
) -> None:
    assert ask(keep_saying(reply(200, GOOD, *headers, date=NOON)), http) == budget


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


@pytest.mark.parametrize("status", [200, 401, 403, 404, 405, 500])
def test_where_no_page_can_be_probed_only_the_time_is_asked_for(status: int) -> None:
    with foreign(lambda request: (status, {"until": "2999-01-01"})) as server:
        before = time.time()
        probe = HttpTransport(f"{server.url}/models/7", "k", 10.0, HttpConfig(probe="")).probe()
        assert [(r.method, r.path) for r in server.requests] == [("HEAD", "/")]
    assert probe.date is not None and before - 1 <= probe.date <= time.time()
    assert probe.server is None


def test_a_named_page_is_probed_and_what_it_says_counts() -> None:
    for status, error in ((401, Unauthorised), (403, LockOut)):
        with foreign(lambda request, status=status: (status, {})) as server, pytest.raises(error):
            HttpTransport(server.url, "k", 10.0, HttpConfig(probe="/limits?v=1")).probe()
        assert [(r.method, r.path) for r in server.requests] == [("GET", "/limits?v=1")]


def test_method_path_headers_and_body_go_out_as_configured() -> None:
    headers = {"X-Api-Key": "{key}", "content-type": "application/octet-stream", "Accept": "application/json"}
    http = HttpConfig(method="PUT", path="/models/7:predict?top=all", headers=headers)
    with foreign(lambda request: (200, {"classes": ["a", "b"], "scores": [1, 0]})) as server:
        transport = HttpTransport(server.url + "/base/", "s3cret", 10.0, http)
        transport.probe()
        assert parse_answer(transport.ask(JPEG).payload).label == "a"
    probe, sent = server.requests
    assert (sent.method, sent.path, sent.body) == ("PUT", "/base/models/7:predict?top=all", JPEG)
    assert sent.headers["content-type"] == "application/octet-stream"
    for request in (probe, sent):
        assert (request.headers["x-api-key"], request.headers["accept"]) == ("s3cret", "application/json")
        assert "authorization" not in request.headers
    assert "content-type" not in probe.headers


@pytest.mark.parametrize(("base", "path"), [("/models/7", ""), ("", "/models/7"), ("/models", "/7")])
def test_the_address_may_name_the_page_itself(base: str, path: str) -> None:
    with foreign(lambda request: (200, {"classes": ["a", "b"], "scores": [1, 0]})) as server:
        HttpTransport(server.url + base, None, 10.0, HttpConfig(path=path)).ask(JPEG)
    assert [r.path for r in server.requests] == ["/models/7"]


def test_an_answer_of_another_form_is_garbled_and_still_tells_what_is_left() -> None:
    with pytest.raises(Garbled, match=r"nothing stands at 'predictions\.0'") as caught:
        ask(keep_saying(reply(200, GOOD, *LIMITS)), HttpConfig(result="mapping", scores="predictions.0"))
    assert caught.value.server == ServerBudget(7, 60.0)


def test_without_the_key_that_a_header_wants_there_is_no_transport() -> None:
    with pytest.raises(ConfigError):
        HttpTransport("http://127.0.0.1:9", None, 1.0, HttpConfig(headers={"X-Api-Key": "{key}"}))


def test_many_transports_at_once_do_not_mix_up_answers_or_deadlines() -> None:
    """Eight threads with one transport each; for two of them the oracle is silent, and only their lines are cut."""
    ended = threading.Event()

    def echo(request: Request) -> tuple[int, object]:
        number = int(request.body)
        if number < 200:
            ended.wait(60)
        return 200, {"classes": ["a", "b"], "scores": [number / 1000, 1 - number / 1000]}

    def work(thread: int) -> list[float | None]:
        transport = HttpTransport(server.url, None, 0.3 if thread < 2 else 60.0)
        heard: list[float | None] = []
        for i in range(4 if thread < 2 else 20):
            try:
                heard.append(transport.ask(b"%d" % (thread * 100 + i)).payload["scores"][0])
            except Failed:
                heard.append(None)
        transport.close()
        return heard

    with foreign(echo) as server, ThreadPoolExecutor(8) as pool:
        try:
            heard = list(pool.map(work, range(8)))
        finally:
            ended.set()
    assert heard[:2] == [[None] * 4] * 2
    assert heard[2:] == [[(thread * 100 + i) / 1000 for i in range(20)] for thread in range(2, 8)]


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
names = (
    "Date",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "RateLimit",
    "Retry-After",
    "Content-Encoding",
    "Content-Length",
    "X",
)
values = st.one_of(st.text(max_size=12), st.sampled_from(["gzip", "5", "-5", "1e400", "chunked", NOON, "r=1;t=2"]))
headers = st.lists(st.builds(lambda n, v: f"{n}: {v}\r\n", st.sampled_from(names), values), max_size=5).map("".join)
bodies = st.one_of(st.binary(max_size=40), st.just(GOOD), st.just(b'{"until": "9999-12-31T23:59:59-12:00"}'))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(heads, headers, bodies, st.sampled_from([HttpConfig(), X_LIMITS, HttpConfig(result="objects")]))
def test_no_bytes_at_all_bring_anything_but_an_answer_or_a_transport_error(
    parrot: tuple[Hostile, list[bytes]], head: str, lines: str, body: bytes, http: HttpConfig
) -> None:
    server, said = parrot
    said[0] = f"{head}\r\n{lines}\r\n".encode("utf-8", "replace") + body
    transport = HttpTransport(server.url, None, 5.0, http)
    try:
        assert isinstance(transport.ask(JPEG).payload, dict)
    except TransportError as exc:
        assert str(exc)
    finally:
        transport.close()
