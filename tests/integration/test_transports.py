"""One contract for every transport, each against the real server's own door, and one night through every door."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pi_agent.config import Config, OracleConfig, load_config
from pi_agent.contract.answers import parse_scores
from pi_agent.contract.transfer_set import read_transfer_set
from pi_agent.paths import Home
from pi_agent.prepare import decode_query
from pi_agent.transports import open_transport
from pi_agent.transports.base import Failed, LockOut, NotSent, Throttled, Transport, Unauthorised
from tests import support_hostile, support_hostile_tcp
from tests.support import CLASSES, query_jpeg
from tests.support_agent import Pi, pictures
from tests.support_server import KEY, Served, serving
from training_host.predictor import load_predictor

PROTOCOLS = ("http", "csaw-tcp")
LONG = ("--quota-period", "366d", "--tcp-port", 0)
YEAR = ("--period", "366d")


@pytest.fixture(scope="module")
def roomy(model: Path, keys: Path) -> Iterator[Served]:
    """One server with a large quota for all tests that do not exhaust it."""
    with serving(model, "--quota", 100_000, "--api-keys", keys, *LONG) as served:
        yield served


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def transport_to(url: str, protocol: str, key: str | None = KEY, timeout: float = 20.0) -> Transport:
    """A transport as the agent opens it."""
    return open_transport(Config(OracleConfig(url, protocol, timeout=timeout)), key)


def left(served: Served, key: str | None = KEY) -> int:
    """What the server says is left."""
    return int(served.quota(key).json()["remaining"])


def counts(store: Path) -> list[tuple[str, int, int]]:
    """What the server admitted and refused, client by client."""
    with contextlib.closing(sqlite3.connect(store)) as rows:
        return rows.execute("SELECT client, counted, refused FROM quota ORDER BY client").fetchall()


# -- the contract ------------------------------------------------------------------------------------------------------


def test_the_answer_is_the_models_and_says_what_is_left(roomy: Served, model: Path, protocol: str) -> None:
    before = left(roomy)
    reply = transport_to(roomy.door(protocol), protocol).ask(query_jpeg(3))
    answer = parse_scores(reply.payload, CLASSES)
    np.testing.assert_array_equal(answer.vector, load_predictor(model).scores(decode_query(query_jpeg(3))))
    assert reply.server is not None and reply.server.reset_in > 0
    assert reply.server.remaining == left(roomy) == before - 1


def test_both_doors_give_the_same_scores_to_the_last_digit(roomy: Served) -> None:
    for seed in range(4):
        first, second = (transport_to(roomy.door(p), p).ask(query_jpeg(seed)).payload for p in PROTOCOLS)
        assert first == second


def test_a_probe_costs_nothing_and_tells_clock_and_quota(roomy: Served, protocol: str) -> None:
    before = left(roomy)
    transport = transport_to(roomy.door(protocol), protocol)
    for _ in range(3):
        probe = transport.probe()
        assert probe.date is not None and abs(probe.date - time.time()) < 60
        assert probe.server is not None and probe.server.remaining == before
    assert left(roomy) == before


def test_a_wrong_key_is_unauthorised_and_is_not_repeated_in_words(roomy: Served, protocol: str) -> None:
    for key in ("wrong", KEY + "x", None):
        transport = transport_to(roomy.door(protocol), protocol, key)
        for call in (transport.probe, lambda: transport.ask(query_jpeg())):  # noqa: B023
            with pytest.raises(Unauthorised) as caught:
                call()
            assert key is None or key not in str(caught.value)


def test_above_the_quota_is_a_lock_out_with_an_end(model: Path, protocol: str, tmp_path: Path) -> None:
    store = tmp_path / "quota.db"
    with serving(model, "--quota", 2, "--quota-store", store, *LONG) as served:
        transport = transport_to(served.door(protocol), protocol, None)
        assert [transport.ask(query_jpeg(n)).payload["classes"] for n in range(2)] == [list(CLASSES)] * 2
        with pytest.raises(LockOut) as caught:
            transport.ask(query_jpeg(2))
        end = served.quota().json()["reset_at"]
        assert caught.value.until is not None
        assert time.strftime("%Y-%m-%dT%H:%M", time.gmtime(caught.value.until + 30)) == end[:16]
        served.ask(query_jpeg(3))  # somebody else with our key goes on, and locks us out
        with pytest.raises(LockOut):
            transport.ask(query_jpeg(4))
    assert counts(store)[0][:2] == ("anonymous", 2)


def test_too_many_at_once_are_throttled(model: Path, protocol: str) -> None:
    with serving(model, "--max-in-flight", 1, *LONG) as served:
        transport = transport_to(served.door(protocol), protocol, None)
        with served.knocking() as slow, slow.makefile("rb") as said:
            assert said.readline().startswith(b"Magpie oracle")
            slow.sendall(b"\n")
            assert b"granted" in said.readline()
            with pytest.raises(Throttled) as caught:
                transport.ask(query_jpeg())
            assert caught.value.retry_after == 1.0
        for _ in range(100):  # until the server has seen the slow one go
            with contextlib.suppress(Throttled):
                transport.ask(query_jpeg())
                return
            time.sleep(0.05)
    pytest.fail("the place was never given back")


def test_nobody_there_is_not_sent(protocol: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    transport = transport_to(f"{'http' if protocol == 'http' else 'tcp'}://127.0.0.1:{port}", protocol)
    for call in (transport.probe, lambda: transport.ask(query_jpeg())):
        with pytest.raises(NotSent):
            call()


@pytest.mark.parametrize("failure", ["silence", "closed at once", "closed early", "dripping"])
def test_what_breaks_after_the_picture_has_perhaps_been_counted(protocol: str, failure: str) -> None:
    name = failure if failure != "dripping" else {"http": "dripping body", "csaw-tcp": "dripping classes"}[protocol]
    with contextlib.ExitStack() as stack:
        oracle: support_hostile.Hostile | support_hostile_tcp.HostileTcp
        if protocol == "http":
            oracle = stack.enter_context(support_hostile.hostile(support_hostile.USELESS[name]))
        else:
            greet = support_hostile_tcp.granted("; Classes: 3")
            oracle = stack.enter_context(support_hostile_tcp.hostile_tcp(support_hostile_tcp.USELESS[name], greet))
        with pytest.raises(Failed):
            transport_to(oracle.url, protocol, timeout=1.0).ask(query_jpeg())
        assert oracle.asked == 1


def test_many_transports_at_once_get_exactly_the_quota(model: Path, protocol: str, tmp_path: Path) -> None:
    store = tmp_path / "quota.db"

    def one(number: int) -> str:
        try:
            transport_to(served.door(protocol), protocol, None).ask(query_jpeg(number))
        except LockOut:
            return "locked"
        return "answered"

    with serving(model, "--quota", 10, "--quota-store", store, *LONG) as served, ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(one, range(24)))
    assert ends.count("answered") == 10 and ends.count("locked") == 14
    assert counts(store)[0][:2] == ("anonymous", 10)


def test_a_night_from_init_to_export_goes_through_every_door(
    model: Path, keys: Path, protocol: str, tmp_path: Path
) -> None:
    pi, store = Pi(tmp_path / "home"), tmp_path / "quota.db"
    (tmp_path / "key").write_text(f"{KEY}\n")
    (tmp_path / "key").chmod(0o600)
    arguments = ("--quota", 8, "--quota-store", store, "--api-keys", keys)
    with serving(model, *arguments, *LONG) as served:
        pi.init(served.door(protocol), 8, *YEAR, "--api-key-file", tmp_path / "key")
        assert f'protocol = "{protocol}"' in (pi.home / "config.toml").read_text()
        pi.done("add", pictures(tmp_path / "photos", 6))
        first = pi.done("collect", "--limit", 2)
        assert (first["sent"], first["settled"], first["remaining"], first["queue"]) == (2, 2, 6, 4)
        rest = pi.done("collect")
        assert (rest["sent"], rest["settled"], rest["failed"], rest["queue"]) == (4, 4, 0, 0)
        assert pi.done("query", tmp_path / "photos" / "000.jpg")["cached"]
        # Of several at once the ledger cannot know which the server had counted when it spoke; the next probe tells it.
        assert pi.done("budget")["remaining"] <= 2
        pi.done("add", pictures(tmp_path / "more", 4, first=50))
        spent = pi.run("collect", "--json")
        assert (spent.code, spent.json["settled"], spent.json["queue"]) == (75, 2, 2)
        assert KEY not in spent.stderr
    assert counts(store) == [("pi", 8, 0)]
    exported = pi.done("export", tmp_path / "night.tar")
    assert (exported["images"], exported["answers"]) == (8, 8)
    for item in read_transfer_set(tmp_path / "night.tar"):
        expected = load_predictor(model).scores(decode_query(item.jpeg))
        np.testing.assert_allclose(item.mean, expected, rtol=1e-5)  # on another processor the last digit may differ


def test_an_agent_whose_key_is_wrong_or_whose_oracle_is_gone_says_so(
    roomy: Served, protocol: str, tmp_path: Path
) -> None:
    pi = Pi(tmp_path / "home")
    pi.init(roomy.door(protocol), 8, *YEAR)
    pi.done("add", pictures(tmp_path / "photos", 1))
    assert pi.fails("query", tmp_path / "photos" / "000.jpg")["exit"] == 77
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    pi.init(f"{'http' if protocol == 'http' else 'tcp'}://127.0.0.1:{port}", 8)
    assert pi.fails("query", tmp_path / "photos" / "000.jpg")["exit"] == 69


def test_init_chooses_the_protocol_by_the_address_and_keeps_the_rest(tmp_path: Path) -> None:
    pi = Pi(tmp_path / "home")
    pi.init("tcp://oracle.example:9000", 7, "--last-class", "white-glass")
    with (pi.home / "config.toml").open("a") as file:
        file.write('\n[http]\npath = "/ask"\n')
    pi.done("init", "--url", "http://oracle.example")
    config = load_config(Home(pi.home), {})
    assert (config.oracle.protocol, config.oracle.last_class, config.budget.daily_quota) == ("http", "white-glass", 7)
    assert config.http.path == "/ask"
    for wrong in (("tcp://oracle.example",), ("tcp://oracle.example:9", "--protocol", "http"), ("oracle.example",)):
        assert pi.fails("init", "--url", *wrong)["exit"] == 78


@pytest.mark.parametrize(("arguments", "sent"), [((), 4), (("--last-class", "c2"), 3)])
def test_an_oracle_that_does_not_say_where_its_answers_end_costs_one_query_more(
    tmp_path: Path, arguments: tuple[str, ...], sent: int
) -> None:
    pi = Pi(tmp_path / "home")
    with support_hostile_tcp.hostile_tcp(support_hostile_tcp.say(support_hostile_tcp.GOOD)) as oracle:
        pi.init(oracle.url, 9, *YEAR, *arguments)
        pi.done("add", pictures(tmp_path / "photos", 3))
        ended = pi.done("collect", PI_AGENT_ORACLE_IN_FLIGHT="1")
        assert (ended["settled"], ended["sent"], oracle.asked) == (3, sent, sent)
