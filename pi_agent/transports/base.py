"""The seam between the agent and any oracle: one verb that spends a query, one that does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pi_agent.contract.answers import ServerBudget


@dataclass(frozen=True)
class Reply:
    """A complete answer as the oracle gave it; whether it can be believed is for `contract.answers` to say."""

    payload: Mapping[str, Any]
    server: ServerBudget | None


@dataclass(frozen=True)
class Probe:
    """What an oracle tells without being asked about an image. `date`: its clock, seconds since 1970, whole seconds."""

    date: float | None
    server: ServerBudget | None


class Transport(Protocol):
    """Talks to one oracle. Never retries and never redirects: every call is at most one query."""

    url: str

    def ask(self, jpeg: bytes) -> Reply:
        """Send one image. Raises a `TransportError`, whose class says whether the query may have been counted."""
        ...

    def probe(self) -> Probe:
        """The oracle's clock and quota, at no cost. Raises a `TransportError`."""
        ...

    def close(self) -> None:
        """Give connections back."""
        ...


class TransportError(Exception):
    """Something went wrong between us and the oracle."""

    def __init__(self, reason: str, server: ServerBudget | None = None) -> None:
        super().__init__(reason)
        self.server = server


class NotSent(TransportError):
    """Certain that no byte of the query left this machine: the query may be refunded."""


class Failed(TransportError):
    """Timeout, reset, server error: the oracle may have counted the query; trying again may help."""


class Garbled(TransportError):
    """The oracle answered something that is no answer: counted; trying again is unlikely to help."""


class Unauthorised(TransportError):
    """The oracle does not accept our key."""


class ImageRefused(TransportError):
    """The oracle does not want this image; others may do."""


class Throttled(TransportError):
    """Too fast: come back after `retry_after` seconds."""

    def __init__(self, reason: str, retry_after: float, server: ServerBudget | None = None) -> None:
        super().__init__(reason, server)
        self.retry_after = retry_after


class LockOut(TransportError):
    """Locked out; `until` in seconds since 1970, None where the oracle does not say."""

    def __init__(self, reason: str, until: float | None, server: ServerBudget | None = None) -> None:
        super().__init__(reason, server)
        self.until = until
