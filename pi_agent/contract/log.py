"""Logs that a person, journald and `grep` can read: one event, one line, `name key=value key="two words"`.

Texts from a server, a file name or a hostile model end up in them. Whatever a terminal could take for a command
(escape codes, line ends, characters that turn the direction of writing) is written as `\\x1b`, `\\n`, `\\u202e`.
Keys and pictures never go into a log.
"""

from __future__ import annotations

import logging
import os
import sys
import time

_SYSLOG_LEVELS = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
_SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_SHORTEST_SECRET = 4
"""A shorter one would be found in every other word."""
MAX_VALUE = 500
"""A value longer than so many characters is cut: a server's error page does not belong into the journal."""


def event(name: str, /, **fields: object) -> str:
    """One logfmt line: `event("retry", number=2, why="timed out")` gives `retry number=2 why="timed out"`.

    None becomes `null`, a bool `true` or `false`, a float has at most six decimals, all else is `str(value)`. Raises
    nothing, unless a value's own `__str__` does.
    """
    return " ".join([_value(name), *(f"{key}={_value(value)}" for key, value in fields.items())])


def _value(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(round(value, 6))
    text = _without_secrets(str(value))
    if len(text) > MAX_VALUE:
        text = text[:MAX_VALUE] + "..."
    if text and text.isprintable() and not set(text) & set(" \"'=\\"):
        return text
    return '"' + harmless(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def harmless(text: str) -> str:
    """`text` on one line, every character that is not printable as an escape such as `\\n`, `\\x1b` or `\\u2028`."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    number = ord(character)
    if character in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[character]
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


_secrets: set[str] = set()


def never_show(secret: str) -> None:
    """From now on no log line and no error message of this process shows `secret`, not even if a server repeats it."""
    if len(secret) >= _SHORTEST_SECRET:
        _secrets.add(secret)


def discreet(text: str) -> str:
    """`text` without the secrets of this process, on one printable line: fit for a log, a terminal or a report."""
    return harmless(_without_secrets(text))


def _without_secrets(text: str) -> str:
    for secret in _secrets:
        text = text.replace(secret, "[secret]")
    return text


class PlainFormatter(logging.Formatter):
    """`2026-11-21T03:20:40Z WARNING pi_agent.oracle: text`, for people. A record is one line, however it was made."""

    def __init__(self, layout: str = "%(asctime)s %(levelname)s %(name)s: %(message)s") -> None:
        super().__init__(layout, "%Y-%m-%dT%H:%M:%SZ")
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The record without its traceback, on one line."""
        return discreet(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        """One record; only a traceback of our own has further lines."""
        return "\n".join(discreet(line) for line in super().format(record).split("\n"))


class JournalFormatter(PlainFormatter):
    """Every line with journald's `<N>` priority before it; the journal adds the time itself."""

    def __init__(self) -> None:
        super().__init__("%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """One record as `<N>text`, a traceback's lines as well."""
        priority = _SYSLOG_LEVELS.get(record.levelno, 6)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).split("\n"))


def start_logging(verbose: bool = False) -> None:
    """Log to stderr; with journald's priorities where systemd reads our stderr. `verbose` shows debug messages."""
    journal = bool(os.environ.get("JOURNAL_STREAM")) and not sys.stderr.isatty()  # desktop terminals inherit it
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JournalFormatter() if journal else PlainFormatter())
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler], force=True)
    for library in ("urllib3", "PIL", "matplotlib"):  # of requests, pictures and fonts they tell too much
        logging.getLogger(library).setLevel(logging.ERROR)
