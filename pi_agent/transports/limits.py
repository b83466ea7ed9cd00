"""What the headers of an HTTP answer say about time and quota. Whatever cannot be read says nothing."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from pi_agent.contract.answers import ServerBudget
from pi_agent.http_config import HttpConfig

MAX_WAIT = 366 * 24 * 60 * 60.0
"""Longest `Retry-After` that is believed, in seconds."""
_WAIT = 60.0
_EPOCH = 1e9
"""A reset above this is a moment since 1970: no quota lasts thirty years."""


def date_of(headers: Mapping[str, str]) -> float | None:
    """The server's clock, seconds since 1970."""
    return _moment(headers.get("Date", ""))


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds to wait, from a number or a date: at least a little, at most `MAX_WAIT`; a minute where none is named."""
    text = headers.get("Retry-After", "")
    seconds = _number(text)
    if seconds is None and (moment := _moment(text)) is not None:
        seconds = moment - _server_now(headers)
    return min(seconds, MAX_WAIT) if seconds is not None and seconds > 0 else _WAIT


def server_budget(headers: Mapping[str, str], http: HttpConfig) -> ServerBudget | None:
    """Queries left and seconds until they come back, from the configured pair of headers.

    With their usual names also from one header `RateLimit`, as in the later drafts of the standard: of several limits
    in it the one that lasts longest, which is the quota.
    """
    if not http.remaining_header:
        return None
    remaining, reset = _number(headers.get(http.remaining_header)), _number(headers.get(http.reset_header))
    if remaining is None and http.remaining_header == HttpConfig.remaining_header:
        reset, remaining = max(_combined(headers.get("RateLimit", "")), default=(None, None))
    if remaining is None or reset is None:
        return None
    if reset > _EPOCH:
        reset = max(0.0, reset - _server_now(headers))
    return ServerBudget(int(min(remaining, 1e9)), min(reset, 1e9))


def _combined(text: str) -> Iterator[tuple[float, float]]:
    """Reset and remaining of `limit=9, remaining=7, reset=60`, or of each limit in `"day";r=7;t=60, "hour";r=1;t=2`."""
    for part in [text] if "remaining" in text else text.split(","):
        told = dict(re.findall(r"(\w+)\s*=\s*(\d{1,18})\b", part))
        remaining, reset = told.get("remaining", told.get("r")), told.get("reset", told.get("t"))
        if remaining is not None and reset is not None:
            yield float(reset), float(remaining)


def _server_now(headers: Mapping[str, str]) -> float:
    """The server's clock where it tells the time: ours may be wrong by years."""
    told = date_of(headers)
    return time.time() if told is None else told


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _moment(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def until_of(told: object) -> float | None:
    """A moment in ISO 8601, seconds since 1970."""
    try:
        moment = datetime.fromisoformat(str(told))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
