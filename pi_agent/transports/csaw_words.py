"""What the lines of a CSAW TCP oracle mean: facts, scores and refusals. There are no status codes, only words."""

from __future__ import annotations

import re

from pi_agent.contract.answers import SUM_TOLERANCE
from pi_agent.transports.base import Failed, Garbled, LockOut, Throttled, TransportError, Unauthorised
from pi_agent.transports.limits import retry_after, until_of

_GRANTED = re.compile(r"\bgranted\b", re.IGNORECASE)
_LOCKED = re.compile(r"locked|lock-?out|quota|exceed", re.IGNORECASE)
_BUSY = re.compile(r"busy|slow down|too many|overload", re.IGNORECASE)
_DENIED = re.compile(
    r"\b(denied|not granted|invalid|wrong|incorrect|forbidden|rejected|unauthori[sz]ed|not (authori[sz]ed|accepted))\b",
    re.IGNORECASE,
)
_ERROR = re.compile(r"\b(error|failed|failure)\b", re.IGNORECASE)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


def text_of(line: bytes) -> str:
    """The line as text; what is no UTF-8 becomes U+FFFD."""
    return line.decode("utf-8", "replace")


def facts(line: str) -> dict[str, str]:
    """`Name: value` between semicolons, such as `RateLimit-Remaining: 7`."""
    pairs = (part.partition(":") for part in line.split(";"))
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}


def is_granted(line: str) -> bool:
    """True for the line that asks for the picture."""
    return bool(_GRANTED.search(line)) and not _DENIED.search(line)


def score(line: bytes) -> tuple[str, float] | None:
    """Class and number of a line `class: score`, None for any other. The number may still be negative or infinite.

    A refusal can look like one: `locked until 12:00` has no blank before the number, `busy; Retry-After: 7` no score.
    """
    text = text_of(line)
    name, _, number = text.rpartition(":")
    found = _NUMBER.fullmatch(number.strip())
    if not name.strip() or "�" in name or not number.startswith((" ", "\t")) or found is None:
        return None
    value = float(found[0])
    return None if not 0 <= value <= 1 + SUM_TOLERANCE and refusal(text, "") else (name.strip(), value)


def refusal(line: str, said: str) -> TransportError | None:
    """What a line means that refuses us, None for any other; `said` is how to quote it."""
    if _LOCKED.search(line):
        moment = _MOMENT.search(line)
        return LockOut(said, until_of(moment[0]) if moment else None)
    if _BUSY.search(line):
        return Throttled(said, retry_after(facts(line)))
    return Unauthorised(said) if _DENIED.search(line) else None


def complaint(line: str, said: str) -> TransportError:
    """What a line means that stands where a score was expected."""
    if refused := refusal(line, said):
        return refused
    return Failed(said) if _ERROR.search(line) else Garbled(f"{said!r} is no line of an answer")
