"""Logs that a person, journald and `grep` can read: one event, one line, `name key=value key="two words"`.

Texts from a server, a file name or a hostile model end up in them. Whatever a terminal could take for a command
(escape codes, line ends, characters that turn the direction of writing) is written as `\\x1b`, `\\n`, `\\u202e`.
Keys and pictures never go into a log.
"""

from __future__ import annotations

_SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
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
    text = str(value)
    if len(text) > MAX_VALUE:
        text = text[:MAX_VALUE] + "..."
    if text and text.isprintable() and not set(text) & set(' "=\\'):
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
