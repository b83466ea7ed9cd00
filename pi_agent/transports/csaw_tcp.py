"""The CSAW TCP oracle: banner, key, `granted`, 270,000 bytes of raw RGB, then one line `class: score` per class.

The protocol has no lengths and no status codes, so two things need care. What is no score is read as words. And an
answer is believed only where its end is certain: at the number of classes that the oracle announced, else at the line
of the last class. Where nobody has named that, it is CSAW's own `white-glass`; failing this, the answer ends with the
connection, and since a broken one ends the same way, a second answer must first name the same classes.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from pi_agent.contract.answers import MAX_CLASSES, ServerBudget
from pi_agent.contract.errors import RefusedImage
from pi_agent.http_config import HttpConfig
from pi_agent.prepare import decode_query
from pi_agent.transports import csaw_words as words
from pi_agent.transports.base import (
    Failed,
    Garbled,
    ImageRefused,
    LockOut,
    NotSent,
    Probe,
    Reply,
    TransportError,
    Unauthorised,
)
from pi_agent.transports.limits import date_of, server_budget
from pi_agent.transports.lines import Lines

CSAW_LAST_CLASS = "white-glass"
_CONNECT_SECONDS = 10.0
_PROMPT_SECONDS = 2.0
"""A banner that stays so long without the end of its line is a prompt, such as `key: `."""
_GRACE_SECONDS = 3.0
"""How long `granted` may still come after what looks like a refusal: it may have been the banner's small print."""
_GREETING_LINES = 100
_BROKEN = (OSError, EOFError, ValueError)


class _Greeting(NamedTuple):
    """What banner and `granted` told in `Name: value; Name: value`, and when, by `time.monotonic()`."""

    facts: dict[str, str]
    heard_at: float

    @property
    def budget(self) -> ServerBudget | None:
        return server_budget(self.facts, HttpConfig())

    @property
    def classes(self) -> int | None:
        told = self.facts.get("Classes", "")
        return int(told) if re.fullmatch(r"[0-9]{1,4}", told) and 0 < int(told) <= MAX_CLASSES else None

    def after_one_query(self) -> ServerBudget | None:
        """What is left at most after one more query, unless the window has ended meanwhile."""
        told, passed = self.budget, time.monotonic() - self.heard_at
        if told is None or told.reset_in <= passed:
            return None
        return ServerBudget(max(0, told.remaining - 1), told.reset_in - passed)


class CsawTcpTransport:
    """One connection per query; `timeout` in seconds bounds the whole of it.

    `last_class`: the class whose line ends an answer; `classes`: those of earlier answers, where they are known.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None,
        timeout: float,
        last_class: str = "",
        classes: Sequence[str] | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._key, self._timeout, self._last_class = api_key or "", timeout, last_class
        self._known = tuple(classes) if classes else None
        self._unconfirmed: tuple[str, ...] | None = None

    def close(self) -> None:
        """Nothing to give back: every query has a connection of its own."""

    def ask(self, jpeg: bytes) -> Reply:
        """Send one image, decoded. See `base.TransportError` for what can be raised.

        Who is told at the door that nothing is left turns round and raises `LockOut`: one query more would lock us out.
        """
        try:
            raw = decode_query(jpeg).tobytes()
        except RefusedImage as exc:
            raise ImageRefused(str(exc.fields["reason"])) from exc
        with self._connection() as (connection, lines, deadline):
            greeting = self._greet(connection, lines)
            budget = greeting.budget
            if budget is not None and budget.remaining == 0:
                date = date_of(greeting.facts)
                until = None if date is None else date + budget.reset_in
                raise LockOut("no queries are left; nothing was sent", until, budget)
            self._send(connection, lines, raw, deadline)
            found = self._answer(lines, greeting.classes)
        return Reply({"classes": list(found), "scores": list(found.values())}, greeting.after_one_query())

    def probe(self) -> Probe:
        """Knock, show the key, and go without having sent a picture."""
        with self._connection() as (connection, lines, _):
            greeting = self._greet(connection, lines)
        return Probe(date_of(greeting.facts), greeting.budget)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[tuple[socket.socket, Lines, float]]:
        """A new connection and its lines, with one deadline for both."""
        deadline = time.monotonic() + self._timeout
        try:
            parts = urlsplit(self.url)
            address = (parts.hostname or "", parts.port or 0)
            connection = socket.create_connection(address, min(_CONNECT_SECONDS, self._timeout))
        except (OSError, ValueError, OverflowError) as exc:
            raise NotSent(self._clean(getattr(exc, "strerror", None) or str(exc))) from exc
        with connection:
            yield connection, Lines(connection, deadline), deadline

    # -- before the picture: nothing is spent ------------------------------------------------------------------------

    def _greet(self, connection: socket.socket, lines: Lines) -> _Greeting:
        """Wait for the banner, show the key, wait for `granted`.

        Raises `NotSent` where this breaks off, or what a refusal means.
        """
        try:
            banner = lines.next_or_prompt(min(_PROMPT_SECONDS, self._timeout / 4))
            connection.sendall(self._key.encode() + b"\n")
        except _BROKEN as exc:
            raise NotSent(f"no banner: {self._clean(str(exc))}") from exc
        facts, hurry = words.facts(words.text_of(banner)), None
        said: list[str] = []
        try:
            for _ in range(_GREETING_LINES):
                line = words.text_of(lines.next(hurry))
                facts |= words.facts(line)
                if words.is_granted(line):
                    return _Greeting(facts, time.monotonic())
                said += [line] if line.strip() else []
                if hurry is None and words.refusal(line, ""):
                    hurry = time.monotonic() + _GRACE_SECONDS
            raise ValueError("a greeting without an end")
        except _BROKEN as exc:
            for line in (*said, words.text_of(lines.rest)):
                if refused := words.refusal(line, self._clean(line)):
                    raise refused from exc
            if said:
                raise Unauthorised(self._clean(said[0])) from exc
            raise NotSent(f"broken off before the picture: {self._clean(str(exc))}") from exc

    # -- after the picture: the query is spent -----------------------------------------------------------------------

    def _send(self, connection: socket.socket, lines: Lines, raw: bytes, deadline: float) -> None:
        """Send the picture. From its first byte on the query may have been counted: nothing is `NotSent` any more."""
        try:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            connection.sendall(raw)
        except OSError as exc:
            with contextlib.suppress(*_BROKEN):  # why the oracle would not take all of it, where it said so
                line = words.text_of(lines.next(time.monotonic() + _GRACE_SECONDS))
                if refused := words.refusal(line, self._clean(line)):
                    raise refused from exc
            raise Failed(self._clean(str(exc))) from exc

    def _answer(self, lines: Lines, announced: int | None) -> dict[str, float]:
        """Scores by class, complete and in their order. Raises `Failed`, `Garbled` or what a refusal means."""
        last = self._last_class or (self._known[-1] if self._known else CSAW_LAST_CLASS)
        found: dict[str, float] = {}
        while len(found) != announced if announced else last not in found:
            try:
                line = lines.next()
            except EOFError as exc:
                if refused := self._last_words(found, lines.rest):
                    raise refused from exc
                if announced or self._last_class or self._known or lines.rest or not found:
                    raise Failed(f"it closed the connection after {len(found)} lines of an answer") from exc
                self._confirm(tuple(found))
                break
            except OSError as exc:
                raise Failed(f"{self._clean(str(exc))} after {len(found)} lines of an answer") from exc
            except ValueError as exc:
                raise Garbled(f"{exc} in an answer") from exc
            if line.strip():
                self._add(line, found)
        return found

    def _add(self, line: bytes, found: dict[str, float]) -> None:
        pair = words.score(line)
        if pair is None:
            text = words.text_of(line)
            raise words.complaint(text, self._clean(text))
        if pair[0] in found or len(found) == MAX_CLASSES:
            raise Garbled(f"the class {self._clean(pair[0])!r} twice, or too many classes")
        found[pair[0]] = pair[1]

    def _last_words(self, found: dict[str, float], rest: bytes) -> TransportError | None:
        """A refusal where a whole answer should be: in a line without an end, or one that looked like a score."""
        text = words.text_of(rest)
        for refused in (words.refusal(line, self._clean(line)) for line in found):
            if isinstance(refused, LockOut):
                return refused
        return words.refusal(text, self._clean(text))

    def _confirm(self, names: tuple[str, ...]) -> None:
        """Judge an answer that ended with the connection: it is whole if the one before it named the same classes."""
        if names != self._unconfirmed:
            self._unconfirmed = names
            raise Failed(
                f"it closed the connection after {len(names)} classes, and nobody said which is the last: ask again to "
                "be sure; oracle.last_class in config.toml saves this query"
            )
        self._known = names

    def _clean(self, text: str) -> str:
        """For logs: printable, short, and without the key, which an oracle may repeat."""
        text = text.replace(self._key, "***") if self._key else text
        return "".join(c if c.isprintable() else "?" for c in text)[:200] or "nothing was said"
