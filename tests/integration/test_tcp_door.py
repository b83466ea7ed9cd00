"""The CSAW TCP door of `train-host serve`: one policy and one quota with HTTP, whatever its clients do."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pi_agent.contract.windows import Period
from pi_agent.transports.base import Failed, LockOut, NotSent, Throttled
from tests.integration.test_transports import LONG, PROTOCOLS, counts, left, transport_to
from tests.support import CLASSES, query_jpeg, tiny_model_folder
from tests.support_hostile_tcp import PICTURE_BYTES
from tests.support_server import KEY, Served, serving, start
from training_host.predictor import load_predictor
from training_host.server import csaw_tcp
from training_host.server.keys import KeyRing
from training_host.server.metrics import Metrics
from training_host.server.quota import Quota
from training_host.server.run import listen
from training_host.server.service import MAX_IN_FLIGHT, Service

BLACK = bytes(PICTURE_BYTES)


@pytest.fixture(scope="module")
def roomy(model: Path, keys: Path) -> Iterator[Served]:
    """One server with a large quota for all tests that do not exhaust it."""
    with serving(model, "--quota", 100_000, "--api-keys", keys, *LONG) as served:
        yield served


def test_the_quota_and_the_lock_out_are_shared_by_both_doors(model: Path, keys: Path, tmp_path: Path) -> None:
    store = tmp_path / "quota.db"
    with serving(model, "--quota", 3, "--quota-store", store, "--api-keys", keys, *LONG) as served:
        http, tcp = (transport_to(served.door(p), p) for p in PROTOCOLS)
        for number, transport in enumerate((http, tcp, http)):
            told = transport.ask(query_jpeg(number)).server
            assert told is not None and told.remaining == 2 - number
        with pytest.raises(LockOut):
            tcp.ask(query_jpeg(4))
        assert counts(store) == [("pi", 3, 0)], "who is told at the door that nothing is left has not asked"
        with raw_query(served, KEY) as said:
            assert said.startswith(b"refused: the quota is exceeded")
        assert counts(store) == [("pi", 3, 1)]
        with pytest.raises(LockOut):
            http.ask(query_jpeg(5))
        with pytest.raises(LockOut):
            tcp.probe()
        assert counts(store) == [("pi", 3, 2)]
        other = transport_to(served.tcp_url, "csaw-tcp", KEY[::-1])
        assert other.ask(query_jpeg()).server is not None
        metrics = requests.get(f"{served.url}/metrics", timeout=30).text.splitlines()
        assert "magpie_predictions_total 4.0" in metrics
        assert 'magpie_requests_total{status="403"} 3.0' in metrics
        assert 'magpie_quota_remaining{client="other"} 2.0' in metrics


@contextlib.contextmanager
def raw_query(served: Served, key: str = "", picture: bytes = BLACK) -> Iterator[bytes]:
    """What a client hears after a picture who does not care what it is told before."""
    with served.knocking() as connection, connection.makefile("rb") as said:
        connection.sendall(key.encode() + b"\n" + picture)
        said.readline()
        said.readline()
        yield said.read()


def test_a_client_may_send_everything_at_once_or_byte_by_byte(roomy: Served) -> None:
    with raw_query(roomy, KEY) as said:
        whole = said
    assert [line.split(b": ")[0].decode() for line in whole.splitlines()] == list(CLASSES)
    with roomy.knocking() as connection, connection.makefile("rb") as heard:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in f"{KEY}\r\n".encode() + BLACK[:50]:
            connection.sendall(bytes([byte]))
        for start_ in range(50, PICTURE_BYTES, 70_001):
            connection.sendall(BLACK[start_ : min(start_ + 70_001, PICTURE_BYTES)])
        assert heard.read().splitlines(keepends=True)[2:] == whole.splitlines(keepends=True)


def test_a_picture_in_part_is_not_counted_and_one_too_long_is_answered(roomy: Served) -> None:
    before = left(roomy)
    for part in (b"", b"x", BLACK[:-1]):
        with roomy.knocking() as connection, connection.makefile("rb") as said:
            connection.sendall(f"{KEY}\n".encode() + part)
            connection.shutdown(socket.SHUT_WR)
            assert len(said.read().splitlines()) == 2, "banner and leave, but no answer"
    assert left(roomy) == before
    with raw_query(roomy, KEY, BLACK + bytes(500_000)) as said_after:
        assert len(said_after.splitlines()) == len(CLASSES)
    assert left(roomy) == before - 1


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_finishes_what_was_granted_and_turns_the_others_away(model: Path, stop: signal.Signals) -> None:
    with serving(model, *LONG) as served, served.knocking() as granted, served.knocking() as waiting:
        with granted.makefile("rb") as said, waiting.makefile("rb") as nothing:
            granted.sendall(b"\n")
            assert b"granted" in [said.readline(), said.readline()][1]
            assert nothing.readline().startswith(b"Magpie oracle")
            served.process.send_signal(stop)
            with contextlib.suppress(ConnectionResetError):
                assert nothing.read() == b""
            with pytest.raises(OSError), served.knocking() as late:  # it takes no new ones
                late.sendall(b"\n")
                if not late.recv(1):
                    raise ConnectionResetError
            granted.sendall(BLACK)
            assert len(said.read().splitlines()) == len(CLASSES)
        assert served.process.wait(timeout=30) == 0


def test_the_text_form_names_both_doors_and_a_taken_port_is_73(model: Path) -> None:
    process = start(model, "--port", 0, "--tcp-port", 0)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert "http://127.0.0.1:" in line and "tcp://127.0.0.1:" in line
    finally:
        process.terminate()
        process.communicate(timeout=30)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = start(model, "--port", 0, "--tcp-port", taken.getsockname()[1])
        assert "--tcp-port" in process.communicate(timeout=60)[1]
        assert process.returncode == 73


def test_class_names_that_fit_into_no_line_are_refused_behind_this_door_only(tmp_path: Path) -> None:
    folder = tiny_model_folder(tmp_path / "model", classes=("a", "b\nc", "d", "e"))
    process = start(folder, "--port", 0, "--tcp-port", 0)
    assert "without --tcp-port" in process.communicate(timeout=60)[1]
    assert process.returncode == 65
    with serving(folder) as served:
        assert served.ask().status_code == 200


def test_an_agent_over_http_loads_nothing_for_tcp() -> None:
    program = (
        "import sys; from pi_agent.config import Config, OracleConfig; from pi_agent.transports import open_transport; "
        "open_transport(Config(OracleConfig('http://localhost')), None); "
        "assert not {'cv2', 'pi_agent.transports.csaw_tcp'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


# -- hostile clients ---------------------------------------------------------------------------------------------------


whole = KEY.encode() + b"\n" + BLACK
pieces = st.lists(
    st.binary(max_size=40)
    | st.sampled_from(
        [b"\n", KEY.encode() + b"\n", b"\r\n", b"x" * 9000, BLACK[:-1], whole, b"GET / HTTP/1.1\r\n\r\n"]
    ),
    max_size=4,
)
ends = st.sampled_from(["close", "reset", "shut", "wait"])


def test_no_client_at_all_brings_the_door_down_or_spends_what_it_has_not_asked(roomy: Served) -> None:
    before, asked = left(roomy), []

    @settings(max_examples=100, deadline=None)
    @given(pieces, ends)
    @example([whole], "shut")
    def attack(said: list[bytes], end: str) -> None:
        key, _, picture = b"".join(said).partition(b"\n")
        if key.strip() == KEY.encode() and len(picture) >= PICTURE_BYTES:
            asked.append(end)
        with contextlib.suppress(ConnectionError), roomy.knocking() as connection:
            for piece in said:
                connection.sendall(piece)
            if end == "shut":
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
            elif end == "wait":
                connection.recv(100)
            elif end == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        assert before - left(roomy) <= len(asked)

    attack()
    assert "shut" in asked and before - left(roomy) >= asked.count("shut"), "whoever waited for an answer was counted"
    with contextlib.ExitStack() as stack:  # no place was lost
        for _ in range(MAX_IN_FLIGHT):
            heard = stack.enter_context(stack.enter_context(roomy.knocking()).makefile("rwb"))
            heard.write(KEY.encode() + b"\n")
            heard.flush()
            assert b"granted" in [heard.readline(), heard.readline()][1]


def test_a_crowd_that_says_nothing_costs_the_others_no_more_than_a_place(roomy: Served) -> None:
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(roomy.knocking()) for _ in range(csaw_tcp.MAX_CONNECTIONS + 20)]
        assert [c.recv(6) for c in crowd].count(b"busy: ") >= 20
        with pytest.raises((NotSent, Throttled)):
            transport_to(roomy.tcp_url, "csaw-tcp").probe()
        assert roomy.quota(KEY).status_code == 200, "the other door stays open"
        threads = int(Path(f"/proc/{roomy.process.pid}/status").read_text().split("Threads:")[1].split()[0])
        assert threads < 64
    for _ in range(200):
        with contextlib.suppress(NotSent, Throttled):
            transport_to(roomy.tcp_url, "csaw-tcp").probe()
            return
        time.sleep(0.05)
    pytest.fail("the places were never given back")


@contextlib.contextmanager
def door_in_process(model: Path) -> Iterator[tuple[int, Service]]:
    """The door alone, in a thread of this process; its port and its service, with a quota of five."""
    service = Service(load_predictor(model), KeyRing(), Quota(5, Period(3600)), clock=lambda: 1000.0)
    listener = listen("127.0.0.1", 0)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    door = csaw_tcp.TcpDoor(service, Metrics(service), listener)
    asyncio.run_coroutine_threadsafe(door.start(), loop).result(timeout=30)
    try:
        yield listener.getsockname()[1], service
    finally:
        asyncio.run_coroutine_threadsafe(door.stop(5.0), loop).result(timeout=30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.mark.parametrize(
    ("name", "sent"), [("HANDSHAKE_SECONDS", b"half a key"), ("PICTURE_SECONDS", b"\nhalf a picture")]
)
def test_a_client_that_dawdles_is_sent_away_and_not_counted(
    model: Path, monkeypatch: pytest.MonkeyPatch, name: str, sent: bytes
) -> None:
    monkeypatch.setattr(csaw_tcp, name, 0.05)
    with door_in_process(model) as (port, service):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection, connection.makefile("rb") as said:
            connection.sendall(sent)
            assert b"did not arrive" in said.readlines()[-1]
        assert service.standing("anonymous")[0].remaining == 5


def test_a_prediction_that_fails_is_told_and_stays_counted(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, pixels: object) -> None:
        raise RuntimeError("out of memory")

    with door_in_process(model) as (port, service):
        monkeypatch.setattr("training_host.predictor.Predictor.scores", broken)
        with pytest.raises(Failed, match="may have been counted") as caught:
            transport_to(f"tcp://127.0.0.1:{port}", "csaw-tcp", None).ask(query_jpeg())
        assert "memory" not in str(caught.value), "nothing of the inside goes out"
        assert service.standing("anonymous")[0].remaining == 4
