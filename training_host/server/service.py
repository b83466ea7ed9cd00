"""The oracle's policy, without any HTTP in it: who may ask, what counts as a question, what it costs.

The order is from cheap to dear, and nothing is counted that could not be answered:

    key -> size and type -> lock-out -> [body] -> decode -> quota -> predict

A body that is no query image is refused before the quota sees it: it costs nothing, and it cannot lock its sender out.
Once a request is counted it stays counted, whatever becomes of the answer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pi_agent.contract.errors import RefusedImage
from pi_agent.contract.images import MAX_QUERY_BYTES
from pi_agent.contract.windows import iso, label
from pi_agent.prepare import decode_query
from training_host.predictor import Predictor, Scores
from training_host.server.keys import KeyRing
from training_host.server.quota import Quota, Standing

_log = logging.getLogger(__name__)


class Refusal(Exception):
    """A request that gets no prediction: the HTTP status, the reason, and what else the answer should say."""

    def __init__(self, status: int, reason: str, **extra: Any) -> None:
        super().__init__(reason)
        self.status = status
        self.body = {"error": reason, **extra}


@dataclass(frozen=True)
class Service:
    """One model behind one policy. `clock`: seconds since 1970 UTC. Threads may share it."""

    predictor: Predictor
    keys: KeyRing
    quota: Quota
    clock: Callable[[], float] = time.time

    def identify(self, authorization: str | None) -> str:
        """The client behind an `Authorization` header. Raises `Refusal` 401."""
        scheme, _, token = (authorization or "").strip().partition(" ")
        client = self.keys.identify(token.strip() if scheme.lower() == "bearer" else None)
        if client is None:
            raise Refusal(401, "a valid API key is needed: Authorization: Bearer KEY")
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
            raise _locked_out(standing)

    def classify(self, client: str, jpeg: bytes) -> Scores:
        """Count one query and answer it: float32 (classes,). Raises `Refusal` 422 (not counted) or 403."""
        try:
            pixels = decode_query(jpeg)
        except RefusedImage as exc:
            raise Refusal(422, f"not counted: {exc.fields['reason']}") from exc
        decision = self.quota.admit(client, self.clock())
        if not decision.admitted:
            _log.warning("%s is above its quota: locked out until %s", client, iso(decision.reset_at))
            raise _locked_out(decision)
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


def _locked_out(standing: Standing) -> Refusal:
    return Refusal(403, "the quota is exceeded: locked out until the window ends", until=iso(standing.reset_at))
