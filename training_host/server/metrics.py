"""What the oracle tells Prometheus, and the middleware that measures it."""

from __future__ import annotations

import time
from collections.abc import MutableMapping
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from starlette.types import ASGIApp, Receive, Scope, Send

from training_host.server.service import Service

_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Metrics:
    """The figures of one oracle, all doors together, in a registry of their own: two in one process do not mix."""

    def __init__(self, service: Service) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "magpie_requests",
            "Answers by status, for other doors the nearest of HTTP.",
            ["status"],
            registry=self._registry,
        )
        self.predictions = Counter("magpie_predictions", "Scores given out.", registry=self._registry)
        self.seconds = Histogram(
            "magpie_request_seconds", "Seconds until an answer was sent.", buckets=_BUCKETS, registry=self._registry
        )
        remaining = Gauge("magpie_quota_remaining", "Queries left.", ["client"], registry=self._registry)
        for client in service.keys.clients:
            # Asked at every scrape: a stored figure would outlive its window.
            remaining.labels(client).set_function(partial(_remaining, service, client))

    def exposition(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self._registry)


def _remaining(service: Service, client: str) -> float:
    return service.standing(client)[0].remaining


class Measure:
    """ASGI middleware: counts each answer by its status and takes its time."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on and look at the first line of its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500  # what the server says for an application that raises before it answers

        async def watch(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        began = time.perf_counter()
        try:
            await self._app(scope, receive, watch)
        finally:
            self._metrics.requests.labels(str(status)).inc()
            self._metrics.seconds.observe(time.perf_counter() - began)
