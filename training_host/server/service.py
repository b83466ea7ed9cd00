"""The oracle's policy, the same behind every door: who may ask, what counts as a question, what it costs.

The order is from cheap to dear, and nothing is counted that could not be answered:

    key -> size and type -> place -> lock-out -> [body] -> decode -> quota -> predict

A body that is no query image is refused before the quota sees it: it costs nothing, and it cannot lock its sender out.
Once a request is counted it stays counted, whatever becomes of the answer.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pi_agent.contract.errors import RefusedImage
from pi_agent.contract.images import MAX_QUERY_BYTES
from pi_agent.contract.windows import iso, label
from pi_agent.prepare import Pixels, decode_query
from training_host.predictor import Predictor, Scores
from training_host.server.keys import KeyRing
from training_host.server.quota import Quota, Standing

MAX_IN_FLIGHT = 16
"""Requests of one client that may be under way at once; each holds at most one body of `MAX_QUERY_BYTES`."""

_log = logging.getLogger(__name__)


class Refusal(Exception):
    """A request that gets no prediction: the HTTP status, the reason, and what else the answer should say."""

    def __init__(self, status: int, reason: str, **extra: Any) -> None:
        super().__init__(reason)
        self.status = status
        self.body = {"error": reason, **extra}


class Places:
    """How many requests each client has under way. Only the event loop's thread touches it, so it needs no lock."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken: Counter[str] = Counter()

    @contextlib.contextmanager
    def taken_by(self, client: str) -> Iterator[None]:
        """Hold one place. Raises `Refusal` 429 when the client has them all."""
        if self._taken[client] >= self._limit:
            raise Refusal(429, f"at most {self._limit} requests at once")
        self._taken[client] += 1
        try:
            yield
        finally:
            self._taken[client] -= 1


@dataclass(frozen=True)
class Service:
    """One model behind one policy, for all doors together. `clock`: seconds since 1970 UTC.

    Threads may share it, but for `places`, which belong to the event loop.
    """

    predictor: Predictor
    keys: KeyRing
    quota: Quota
    clock: Callable[[], float] = time.time
    places: Places = field(default_factory=lambda: Places(MAX_IN_FLIGHT))

    def identify(self, authorization: str | None) -> str:
        """The client behind an `Authorization` header. Raises `Refusal` 401."""
        scheme, _, token = (authorization or "").strip().partition(" ")
        client = self.keys.identify(token.strip() if scheme.lower() == "bearer" else None)
        if client is None:
            raise Refusal(401, "a valid API key is needed: Authorization: Bearer KEY")
        return client

    def identify_key(self, key: str) -> str:
        """The client who holds the bare `key`. Raises `Refusal` 401."""
        client = self.keys.identify(key)
        if client is None:
            raise Refusal(401, "a valid API key is needed")
        return client

    def check_envelope(self, content_type: str | None, content_length: str | None) -> None:
        """Judge a body by its headers, before a byte of it is read. Raises `Refusal` 413 or 415."""
        if content_length is not None and content_length.isdecimal() and int(content_length) > MAX_QUERY_BYTES:
            raise too_large()
        if (content_type or "").partition(";")[0].strip().lower() != "image/jpeg":
            raise Refusal(415, "the body must be one JPEG, Content-Type: image/jpeg")

    def check_lock(self, client: str) -> None:
        """Turn a locked-out client away. Raises `Refusal` 403."""
        now = self.clock()
        if self.quota.state(client, now).locked_until is None:
            return
        standing = self.quota.refuse(client, now)
        if standing.locked_until is not None:  # else the next window has opened between the two
            raise locked_out(standing)

    def classify(self, client: str, jpeg: bytes) -> Scores:
        """Count one JPEG as a query and answer it: float32 (classes,). Raises `Refusal` 422 (not counted) or 403."""
        try:
            pixels = decode_query(jpeg)
        except RefusedImage as exc:
            raise Refusal(422, f"not counted: {exc.fields['reason']}") from exc
        return self.classify_pixels(client, pixels)

    def classify_pixels(self, client: str, pixels: Pixels) -> Scores:
        """Count one query and answer it: uint8 (300, 300, 3) RGB to float32 (classes,). Raises `Refusal` 403.

        Every door ends here. The query is counted, durably, before the prediction starts.
        """
        decision = self.quota.admit(client, self.clock())
        if not decision.admitted:
            _log.warning("%s is above its quota: locked out until %s", client, iso(decision.reset_at))
            raise locked_out(decision)
        return self.predictor.scores(pixels)

    def standing(self, client: str) -> tuple[Standing, int]:
        """Where `client` stands, at no cost, and the whole seconds until its window ends."""
        now = self.clock()
        standing = self.quota.state(client, now)
        return standing, standing.window.seconds_left(now)

    def window_label(self, standing: Standing) -> str:
        """The window's short name."""
        return label(standing.window, self.quota.period)


def too_large() -> Refusal:
    """The refusal of a body above the limit, announced or met on the way."""
    return Refusal(413, f"a query image has at most {MAX_QUERY_BYTES} bytes")


def locked_out(standing: Standing) -> Refusal:
    """The refusal of a client who is above the quota, with the end of it."""
    return Refusal(403, "the quota is exceeded: locked out until the window ends", until=iso(standing.reset_at))
