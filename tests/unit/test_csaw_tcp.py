"""The CSAW TCP transport against real sockets: every failure says whether the picture may have been counted."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from email.utils import formatdate

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pi_agent.config import Config, OracleConfig
from pi_agent.contract.answers import BadAnswer, ServerBudget, parse_scores
from pi_agent.prepare import decode_query
from pi_agent.transports import open_transport
from pi_agent.transports.base import (
    Failed,
    Garbled,
    ImageRefused,
    LockOut,
    NotSent,
    Reply,
    Throttled,
    TransportError,
    Unauthorised,
)
from pi_agent.transports.csaw_tcp import CsawTcpTransport
from pi_agent.transports.limits import MAX_WAIT
from tests.support import query_jpeg
from tests.support_hostile_tcp import (
    GOOD,
    USELESS,
    Behaviour,
    Greeting,
    HostileTcp,
    drip,
    granted,
    hostile_tcp,
    keep_saying,
    lines,
    piece_by_piece,
    reset,
    say,
)

JPEG = query_jpeg()
KEY = "0123456789abcdef"
THREE = {"classes": ["c0", "c1", "c2"], "scores": [0.25, 0.5, 0.25]}
LIMITS = "; Classes: 3; RateLimit-Limit: 9; RateLimit-Remaining: 7; RateLimit-Reset: 60"


def ask(
    behaviour: Behaviour,
    greet: Greeting | None = None,
    banner: bytes | None = None,
    *,
    timeout: float = 10.0,
    last_class: str = "c2",
) -> Reply:
    """One question to an oracle that behaves like this."""
    with hostile_tcp(behaviour, greet, banner) as server:
        return CsawTcpTransport(server.url, KEY, timeout, last_class).ask(JPEG)


def refused(greet: Greeting | None = None, banner: bytes | None = None, timeout: float = 10.0) -> TransportError:
    """What a question ends in that is turned away at the door; the oracle saw no picture."""
    with hostile_tcp(say(GOOD), greet, banner) as server:
        with pytest.raises(TransportError) as caught:
            CsawTcpTransport(server.url, KEY, timeout, "c2").ask(JPEG)
        assert server.pictures == []
        assert KEY not in str(caught.value) and str(caught.value).isprintable()
        return caught.value


def saying(data: bytes, *, stay: bool = False) -> Greeting:
    """Answer a key with these bytes and hang up, or stay on the line."""

    def greet(connection: socket.socket, key: bytes) -> None:
        connection.sendall(data)
        if not stay:
            connection.shutdown(socket.SHUT_WR)

    return greet


# -- answers -----------------------------------------------------------------------------------------------------------


def test_the_picture_goes_out_as_raw_rgb_and_the_answer_comes_back() -> None:
    with hostile_tcp(say(GOOD)) as server:
        assert CsawTcpTransport(server.url, KEY, 10.0, "c2").ask(JPEG).payload == THREE
        assert server.pictures == [decode_query(JPEG).tobytes()]
        assert server.keys == [KEY.encode()]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_chunking_does_not_matter(size: int) -> None:
    pieces = [GOOD[i : i + size] for i in range(0, len(GOOD), size)]
    assert ask(piece_by_piece(pieces)).payload == THREE


def test_crlf_blank_lines_spaces_and_colons_in_names_are_understood() -> None:
    assert ask(say(GOOD.replace(b"\n", b"\r\n\r\n"))).payload == THREE
    assert ask(say(GOOD.replace(b": ", b" :\t ").replace(b"c1", b"c1: the second"))).payload == {
        "classes": ["c0", "c1: the second", "c2"],
        "scores": [0.25, 0.5, 0.25],
    }


def test_numbers_may_be_written_in_any_usual_way() -> None:
    assert ask(say(b"a: 1e-3\nb: .5\nc2: 4.99E-1\n")).payload["scores"] == [0.001, 0.5, 0.499]


@pytest.mark.parametrize("name", USELESS)
@pytest.mark.parametrize("facts", ["", "; Classes: 3"])
def test_a_useless_answer_is_an_error_and_ends(name: str, facts: str) -> None:
    with pytest.raises((Failed, Garbled, BadAnswer)) as caught, hostile_tcp(USELESS[name], granted(facts)) as server:
        transport = CsawTcpTransport(server.url, None, 1.0, "" if facts else "c2")
        parse_scores(transport.ask(JPEG).payload)
    assert str(caught.value).isprintable()


# -- where an answer ends ----------------------------------------------------------------------------------------------


def test_the_last_class_ends_an_answer_on_a_connection_that_stays_open() -> None:
    assert ask(keep_saying(GOOD)).payload == THREE
    assert ask(keep_saying(GOOD + b"goodbye\n")).payload == THREE


def test_the_number_of_classes_ends_an_answer_where_the_oracle_announces_it() -> None:
    assert ask(keep_saying(GOOD), granted(LIMITS), last_class="").payload == THREE


def test_the_classes_of_earlier_answers_end_an_answer() -> None:
    with hostile_tcp(keep_saying(GOOD)) as server:
        assert CsawTcpTransport(server.url, None, 10.0, classes=THREE["classes"]).ask(JPEG).payload == THREE  # type: ignore[arg-type]


def test_white_glass_ends_the_answer_of_the_original() -> None:
    answer = keep_saying(b"trash: 0.5\nwhite-glass: 0.5\n")
    assert ask(answer, last_class="").payload["classes"] == ["trash", "white-glass"]


def test_an_answer_that_ends_with_the_connection_is_believed_when_a_second_one_agrees() -> None:
    with hostile_tcp(say(GOOD)) as server:
        transport = CsawTcpTransport(server.url, None, 10.0)
        with pytest.raises(Failed, match="last_class"):
            transport.ask(JPEG)
        for _ in range(3):
            assert transport.ask(JPEG).payload == THREE
        assert server.asked == 4


def test_what_is_missing_at_the_end_is_noticed_however_small_it_is() -> None:
    """The first two scores sum to one within any tolerance: only the missing line says that this is not all."""
    whole, part = lines(0.5, 0.5, 1e-9), lines(0.5, 0.5)
    cut = [part, whole, part, whole, whole, part, whole]
    with hostile_tcp(lambda connection, number: connection.sendall(cut[number - 1])) as server:
        transport = CsawTcpTransport(server.url, None, 10.0)
        got = []
        for _ in cut:
            with contextlib.suppress(Failed):
                got.append(transport.ask(JPEG).payload["classes"])
    assert got == [["c0", "c1", "c2"]] * 2, "the fifth is the first with one like it just before, the sixth is cut"
    for facts, last_class in ((LIMITS, ""), ("", "c2")):
        with pytest.raises(Failed):
            ask(say(part), granted(facts), last_class=last_class)


# -- before the picture ------------------------------------------------------------------------------------------------


def test_no_connection_is_not_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for url in (f"tcp://127.0.0.1:{port}", "tcp://no-such-host.invalid:1", f"tcp://{'x' * 70}.invalid:1"):
        transport = CsawTcpTransport(url, KEY, 5.0)
        for call in (transport.probe, lambda: transport.ask(JPEG)):  # noqa: B023
            with pytest.raises(NotSent):
                call()


def nothing(connection: socket.socket, key: bytes) -> None:
    """Close without a word."""
    connection.shutdown(socket.SHUT_RDWR)


def silent(connection: socket.socket, key: bytes) -> None:
    """Say nothing and wait."""
    connection.recv(1)


@pytest.mark.parametrize(
    ("greet", "banner"),
    [
        (silent, b""),
        (silent, b"hello\n"),
        (silent, b"hello"),
        (nothing, b"hello\n"),
        (nothing, b"\xff\x00" * 5000),
        (nothing, b"x" * 3_000_000),
        (saying(b"access gran"), b"hello\n"),
        (saying(b"access granted"), b"hello\n"),
        (lambda connection, key: reset(connection, 0), b"hello\n"),
        (nothing, b"daily quota: 700; who exceeds it is locked out\n"),
        (nothing, b"mind the quota! key: "),
    ],
)
def test_a_handshake_that_breaks_off_is_not_sent(greet: Greeting, banner: bytes) -> None:
    assert type(refused(greet, banner, timeout=1.0)) is NotSent


def test_a_dripping_banner_ends_at_the_deadline() -> None:
    def dripping(connection: socket.socket, key: bytes) -> None:
        drip(b"", b".", 0.05)(connection, 0)

    assert type(refused(dripping, b"hello\n", timeout=0.5)) is NotSent


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"locked until 2026-11-22T00:00:00Z", LockOut),
        (b"daily quota exceeded", LockOut),
        (b"You are locked out for today.", LockOut),
        (b"busy", Throttled),
        (b"please SLOW DOWN", Throttled),
        (b"invalid key 0123456789abcdef", Unauthorised),
        (b"access not granted", Unauthorised),
        (b"\x1b[31maccess denied", Unauthorised),
    ],
)
def test_a_refusal_at_the_door_says_what_it_means(line: bytes, end: bytes, error: type[TransportError]) -> None:
    assert type(refused(saying(line + end))) is error


def test_any_other_line_and_no_leave_is_unauthorised() -> None:
    assert type(refused(saying(b"who are you?\n"))) is Unauthorised
    assert type(refused(saying(b"who are you?\n", stay=True), timeout=0.5)) is Unauthorised


def test_a_refusal_is_noticed_also_where_the_connection_stays_open() -> None:
    assert type(refused(saying(b"access denied\n", stay=True), timeout=30.0)) is Unauthorised


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-22T00:00:00Z", 1795305600.0),
        ("2026-11-22 00:00", 1795305600.0),
        ("2026-11-22T01:00:00+01:00", 1795305600.0),
        ("2026-99-99T01:00:00Z", None),
        ("tomorrow", None),
    ],
)
def test_a_lock_out_says_until_when_if_it_can_be_read(text: str, moment: float | None) -> None:
    for caught in (refused(saying(f"locked out until {text}, sorry\n".encode())), after_the_picture(f"locked {text}")):
        assert isinstance(caught, LockOut) and caught.until == moment


@pytest.mark.parametrize(("told", "seconds"), [("7", 7.0), ("soon", 60.0), ("-3", 60.0), ("9" * 30, MAX_WAIT)])
def test_retry_after_is_always_a_sane_number(told: str, seconds: float) -> None:
    caught = refused(saying(f"busy: later; Retry-After: {told}\n".encode()))
    assert isinstance(caught, Throttled) and caught.retry_after == seconds


@pytest.mark.parametrize(
    "banner",
    [
        b"welcome\nthe daily quota is 700\nkey?\n",
        b"welcome\n\n\n",
        b"welcome, your key: ",
        b"access is granted to keys only\n",
    ],
)
def test_longer_banners_and_prompts_are_heard_out(banner: bytes) -> None:
    assert ask(say(GOOD), banner=banner).payload == THREE


def test_small_print_that_comes_late_is_no_refusal() -> None:
    def greet(connection: socket.socket, key: bytes) -> None:
        connection.sendall(b"who exceeds the quota is locked out\nkey accepted, access granted\n")

    assert ask(say(GOOD), greet).payload == THREE


# -- after the picture -------------------------------------------------------------------------------------------------


def after_the_picture(line: str) -> TransportError:
    with pytest.raises(TransportError) as caught:
        ask(say(f"{line}\n".encode()))
    assert KEY not in str(caught.value) and str(caught.value).isprintable()
    return caught.value


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("refused: the quota is exceeded; until 2026-11-22T00:00:00Z", LockOut),
        ("locked out until 00:00", LockOut),
        ("queries above the quota: 1", LockOut),
        ("busy; Retry-After: 7", Throttled),
        (f"denied: {KEY}\x1b[2J", Unauthorised),
        ("error: internal error; the query may have been counted", Failed),
        (f"hello {KEY}", Garbled),
    ],
)
def test_a_refusal_in_place_of_an_answer_says_what_it_means(line: str, error: type[TransportError]) -> None:
    assert type(after_the_picture(line)) is error


def test_a_lock_out_without_the_end_of_its_line_is_one() -> None:
    with pytest.raises(LockOut):
        ask(say(b"quota exceeded"))
    with pytest.raises(LockOut):
        ask(say(b"c0: 0.5\nquota exceeded"))


def test_an_oracle_that_closes_in_the_middle_of_the_picture_has_perhaps_counted() -> None:
    def greet(connection: socket.socket, key: bytes) -> None:
        granted()(connection, key)
        connection.recv(1000)
        reset(connection, 0)

    with pytest.raises(Failed):
        ask(say(GOOD), greet)


def test_an_oracle_that_takes_no_picture_ends_at_the_deadline() -> None:
    """More than the buffers of both sides hold, so that sending itself has to wait."""

    def greet(connection: socket.socket, key: bytes) -> None:
        granted()(connection, key)
        server.ended.wait()

    with hostile_tcp(say(GOOD), greet) as server:
        server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # connections inherit it
        with pytest.raises(Failed):
            CsawTcpTransport(server.url, KEY, 0.5, "c2").ask(JPEG)
        server.ended.set()


def test_a_file_that_is_no_query_image_is_refused_before_anybody_is_asked() -> None:
    with hostile_tcp(say(GOOD)) as server:
        with pytest.raises(ImageRefused):
            CsawTcpTransport(server.url, KEY, 5.0).ask(JPEG[:500])
        assert server.keys == []


# -- clock and quota ---------------------------------------------------------------------------------------------------


def test_a_probe_sends_no_picture_and_tells_clock_and_quota() -> None:
    with hostile_tcp(say(GOOD), granted(LIMITS)) as server:
        before = time.time()
        probe = CsawTcpTransport(server.url, KEY, 10.0).probe()
        assert server.pictures == []
    assert probe.date is not None and before - 1 <= probe.date <= time.time()
    assert probe.server == ServerBudget(7, 60.0)
    with hostile_tcp(say(GOOD), banner=b"hello\n") as server:
        probe = CsawTcpTransport(server.url, KEY, 10.0).probe()
    assert (probe.date, probe.server) == (None, None)


def test_an_answer_says_what_is_left_after_it() -> None:
    told = ask(say(GOOD), granted(LIMITS)).server
    assert told is not None and told.remaining == 6 and 50 < told.reset_in <= 60


def test_what_was_left_in_a_window_that_ended_meanwhile_is_forgotten() -> None:
    slow = piece_by_piece([GOOD[:9], GOOD[9:]], 0.05)
    assert ask(slow, granted(LIMITS.replace("Reset: 60", "Reset: 0"))).server is None


@pytest.mark.parametrize("facts", ["", "; RateLimit-Remaining: 5", "; RateLimit-Remaining: x; RateLimit-Reset: 5"])
def test_limits_that_cannot_be_read_say_nothing(facts: str) -> None:
    assert ask(say(GOOD), granted(facts)).server is None


@pytest.mark.parametrize("told", ["x", "-3", "0", "99999", "4097", "3.0", "٣"])
def test_a_number_of_classes_that_cannot_be_read_says_nothing(told: str) -> None:
    assert ask(say(GOOD), granted(f"; Classes: {told}")).payload == THREE


def test_who_is_told_that_nothing_is_left_turns_round_before_it_counts() -> None:
    date = formatdate(1795305600, usegmt=True)
    caught = refused(granted(LIMITS.replace("g: 7", "g: 0")), f"hello; Date: {date}\n".encode())
    assert isinstance(caught, LockOut)
    assert (caught.until, caught.server) == (1795305660.0, ServerBudget(0, 60.0))


# -- choosing it -------------------------------------------------------------------------------------------------------


def test_the_configuration_chooses_the_protocol() -> None:
    with hostile_tcp(keep_saying(GOOD)) as server:
        config = Config(OracleConfig(server.url, "csaw-tcp", last_class="c2"))
        assert open_transport(config, None).ask(JPEG).payload == THREE
        config = Config(OracleConfig(server.url, "csaw-tcp"))
        assert open_transport(config, None, ["c0", "c1", "c2"]).ask(JPEG).payload == THREE


@pytest.mark.parametrize("url", ["http://oracle:1", "tcp://oracle", "tcp://oracle:0", "tcp://user:x@oracle:1", "tcp:"])
def test_an_address_that_is_none_for_this_protocol_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"tcp://host:port|port 0|a port|user, password"):
        OracleConfig(url, "csaw-tcp")


# -- anything at all ---------------------------------------------------------------------------------------------------


class Parrot:
    """An oracle that says whatever the test puts here, in pieces."""

    banner: list[bytes]
    greeting: list[bytes]
    answer: list[bytes]
    server: HostileTcp


@pytest.fixture(scope="module")
def parrot() -> Iterator[Parrot]:
    bird = Parrot()

    def greet(connection: socket.socket, key: bytes) -> None:
        for piece in bird.greeting:
            connection.sendall(piece)
        if not any(b"granted" in piece for piece in bird.greeting):
            connection.shutdown(socket.SHUT_WR)

    def behave(connection: socket.socket, number: int) -> None:
        for piece in bird.answer:
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)

    with hostile_tcp(behave, greet, b"hello\n") as bird.server:
        yield bird


names = st.sampled_from(["c0", "c1", "c2", "white-glass", "", "\x1b[2J", "a: b", "granted", "busy"]) | st.text(
    max_size=5
)
numbers = st.sampled_from(["0.5", "1", "0", "nan", "-1", "1e400", "0x1", "", "1_0", "inf", ".5"]) | st.floats().map(str)
score_lines = st.builds(
    lambda n, s, end: f"{n}: {s}{end}".encode("utf-8", "replace"), names, numbers, st.sampled_from(["\n", "\r\n", ""])
)
words = st.sampled_from(
    [
        b"locked out until 9999-12-31T23:59:59-12:00\n",
        b"busy; Retry-After: 1e999\n",
        b"denied\n",
        b"error\n",
        GOOD,
        b"\n",
    ]
)
anything = st.lists(score_lines | words | st.binary(max_size=30), max_size=8)
greetings = st.lists(words | st.binary(max_size=20), max_size=3)
facts = st.sampled_from(
    [b"", b"; Classes: 2", b"; Classes: 3", b"; RateLimit-Remaining: 0; RateLimit-Reset: 1e308", b";:;"]
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(greetings, facts, st.booleans(), anything, st.sampled_from(["", "c2"]))
def test_no_bytes_at_all_bring_anything_but_an_answer_or_a_transport_error(
    parrot: Parrot, greeting: list[bytes], told: bytes, opens: bool, answer: list[bytes], last_class: str
) -> None:
    parrot.greeting = [*greeting, b"\ngranted" + told + b"\n"] if opens else greeting
    parrot.answer = answer
    before = parrot.server.asked
    transport = CsawTcpTransport(parrot.server.url, KEY, 2.0, last_class)
    try:
        reply = transport.ask(JPEG)
    except NotSent:
        assert parrot.server.asked == before
    except TransportError as exc:
        assert str(exc).isprintable() and KEY not in str(exc)
    else:
        said = b"".join(answer).decode("utf-8", "replace")
        assert all(name in said for name in reply.payload["classes"])
        assert len(reply.payload["classes"]) == len(reply.payload["scores"]) > 0
        assert b"Classes: 3" not in told or len(reply.payload["classes"]) == 3
    with contextlib.suppress(TransportError):
        assert transport.probe().date is None
