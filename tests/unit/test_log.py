"""One event is one line, whatever a hostile text holds; the journal gets priorities, people get time and level."""

from __future__ import annotations

import io
import logging
import shlex
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi_agent.contract import log as log_module
from pi_agent.contract.log import (
    MAX_VALUE,
    JournalFormatter,
    PlainFormatter,
    discreet,
    event,
    harmless,
    never_show,
    start_logging,
)

NASTY = "\x1b[2J\x07\n\r\t\x85\u2028\u202e\x00\ud800\x9b"


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back as it was."""
    logger = logging.getLogger()
    handlers, level = list(logger.handlers), logger.level
    yield logger
    logger.handlers[:], logger.level = handlers, level


def record(text: str, *values: object, level: int = logging.WARNING, **more: object) -> logging.LogRecord:
    made = logging.LogRecord("pi_agent.oracle", level, __file__, 1, text, values, None)
    made.__dict__.update(more, created=0.0)
    return made


def test_an_event_reads_like_this() -> None:
    line = event("retry", number=2, why="timed out", url="http://o:1/x", again=True, until=None, wait=0.5)
    assert line == 'retry number=2 why="timed out" url=http://o:1/x again=true until=null wait=0.5'
    assert event("run.ended", name="", path='a "b"\\c=d', seconds=1.23456789) == (
        'run.ended name="" path="a \\"b\\"\\\\c=d" seconds=1.234568'
    )
    assert event("x", a=float("nan"), b=float("inf"), c=1795219200.25) == "x a=nan b=inf c=1795219200.25"


def test_characters_that_a_terminal_obeys_are_written_out() -> None:
    line = event("oracle said", what=NASTY)
    assert line == ('"oracle said" what="\\x1b[2J\\x07\\n\\r\\t\\x85\\u2028\\u202e\\x00\\ud800\\x9b"'), (
        "and nothing else"
    )


@given(st.text(), st.text(), st.integers() | st.floats() | st.booleans() | st.none())
def test_any_event_is_one_printable_line_that_can_be_taken_apart(one: str, two: str, three: object) -> None:
    line = event("name", one=one, two=two, three=three)
    assert line.isprintable() and len(line.splitlines()) == 1
    words = shlex.split(line)
    assert [w.partition("=")[0] for w in words] == ["name", "one", "two", "three"]
    if one.isprintable() and len(one) <= MAX_VALUE:
        assert words[1] == f"one={one}"


def test_a_page_of_text_is_cut() -> None:
    assert len(event("x", body="<" * 100_000)) < MAX_VALUE + 20


@given(st.text())
def test_a_harmless_text_is_printable_and_printable_texts_stay(text: str) -> None:
    assert harmless(text).isprintable()
    assert harmless(harmless(text)) == harmless(text)


@pytest.mark.parametrize(
    ("level", "priority"), [(10, "<7>"), (20, "<6>"), (30, "<4>"), (40, "<3>"), (50, "<2>"), (25, "<6>")]
)
def test_the_journal_gets_a_priority_before_every_line(level: int, priority: str) -> None:
    try:
        raise ValueError("bad\x1b[0m")
    except ValueError:
        failed = record("it %s", NASTY, level=level, exc_info=sys.exc_info())
    lines = JournalFormatter().format(failed).splitlines()
    assert len(lines) > 3 and all(line.startswith(priority) and line.isprintable() for line in lines)
    assert lines[0].startswith(f"{priority}pi_agent.oracle: it \\x1b[2J")
    assert lines[-1] == f"{priority}ValueError: bad\\x1b[0m"


def test_people_get_time_in_utc_and_level() -> None:
    assert PlainFormatter().format(record("a\nb")) == "1970-01-01T00:00:00Z WARNING pi_agent.oracle: a\\nb"


@pytest.mark.parametrize("stream", [None, "8:12345"])
@pytest.mark.parametrize("verbose", [False, True])
def test_logging_starts_for_people_or_for_the_journal(
    root: logging.Logger, monkeypatch: pytest.MonkeyPatch, stream: str | None, verbose: bool
) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    if stream:
        monkeypatch.setenv("JOURNAL_STREAM", stream)
    start_logging(verbose)
    logging.getLogger("pi_agent.x").debug(event("detail"))
    logging.getLogger("pi_agent.x").info(event("said", by="o"))
    logging.getLogger("urllib3.connectionpool").warning("a request")
    lines = stderr.getvalue().splitlines()
    assert len(lines) == 1 + verbose
    assert lines[-1].endswith("pi_agent.x: said by=o")
    assert lines[-1].startswith("<6>") if stream else " INFO " in lines[-1]


def test_a_terminal_gets_no_priorities_though_it_inherited_the_variable(
    root: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("JOURNAL_STREAM", "8:12345")
    start_logging()
    logging.getLogger("x").warning("hello")
    assert terminal.getvalue().endswith(" WARNING x: hello\n") and "<" not in terminal.getvalue()


@pytest.mark.parametrize("time", ["first", "second"])
def test_a_key_of_an_earlier_test_is_no_secret_of_the_next(time: str) -> None:
    assert discreet("round 12345678") == "round 12345678", time
    never_show("4567")
    assert discreet("round 12345678") == "round 123[secret]8"


@pytest.mark.parametrize("secret", ["0123456789abcdef", 'q"uo\\te', "=x y="])
def test_a_secret_is_shown_nowhere_even_if_a_server_repeats_it(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setattr(log_module, "_secrets", set())
    never_show(secret)
    never_show("ab")
    assert event("said", what=f"<{secret}>") == "said what=<[secret]>"
    assert event("said", what="x" * (MAX_VALUE - 3) + secret).find(secret[:3]) == -1, "not even its beginning"
    assert PlainFormatter().format(record("%s and ab", secret)).endswith(": [secret] and ab")
    assert discreet(f"{secret}\n{secret}") == "[secret]\\n[secret]"
    try:
        raise ValueError(secret)
    except ValueError:
        failed = record("it", exc_info=sys.exc_info())
    assert secret not in JournalFormatter().format(failed)
