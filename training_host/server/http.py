"""The HTTP door: `POST /v1/classify`, `GET /v1/quota`, `/healthz` and `/metrics`.

Every answer is JSON and every answer to a known client carries `RateLimit-Limit`, `-Remaining` and `-Reset` (whole
seconds until the window ends, rounded up). The event loop only moves bytes; SQLite, the decoder and the model run in
threads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from pi_agent.contract.answers import as_json_list
from pi_agent.contract.images import MAX_QUERY_BYTES
from pi_agent.contract.windows import iso
from training_host.server.metrics import Measure, Metrics
from training_host.server.service import Refusal, Service, too_large

BODY_SECONDS = 30.0
"""How long a body may take to arrive: a slow one must not hold its place for ever."""

_Work = Callable[[Request, str], Awaitable[dict[str, Any]]]
_log = logging.getLogger(__name__)


def make_app(service: Service, metrics: Metrics | None = None) -> FastAPI:
    """The ASGI application for `service`. Starts nothing and opens nothing. Doors of one process share `metrics`."""
    app = FastAPI(title="Magpie oracle", docs_url=None, redoc_url=None, openapi_url=None)
    metrics = metrics or Metrics(service)
    app.add_middleware(Measure, metrics=metrics)
    app.add_exception_handler(HTTPException, _http_error)

    async def classify(request: Request, client: str) -> dict[str, Any]:
        service.check_envelope(request.headers.get("content-type"), request.headers.get("content-length"))
        with service.places.taken_by(client):
            await run_in_threadpool(service.check_lock, client)
            body = await read_body(request)
            scores = await run_in_threadpool(service.classify, client, body)
        metrics.predictions.inc()
        return {"classes": list(service.predictor.classes), "scores": as_json_list(scores)}

    async def quota(request: Request, client: str) -> dict[str, Any]:
        standing, _ = await run_in_threadpool(service.standing, client)
        locked = standing.locked_until
        return {
            "limit": standing.limit,
            "remaining": standing.remaining,
            "reset_at": iso(standing.reset_at),
            "window": service.window_label(standing),
            "locked_until": None if locked is None else iso(locked),
        }

    @app.post("/v1/classify")
    async def post_classify(request: Request) -> Response:
        return await _answer(service, request, classify)

    @app.get("/v1/quota")
    async def get_quota(request: Request) -> Response:
        return await _answer(service, request, quota)

    @app.get("/healthz")
    async def get_health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/metrics")
    async def get_metrics() -> Response:
        return Response(await run_in_threadpool(metrics.exposition), media_type=CONTENT_TYPE_LATEST)

    return app


async def _answer(service: Service, request: Request, work: _Work) -> Response:
    """Identify the client, do the work, and say in any case what is left of the quota."""
    client, status, headers = None, 200, {}
    try:
        client = service.identify(request.headers.get("authorization"))
        body = await work(request, client)
    except Refusal as refusal:
        status, body = refusal.status, refusal.body
        if status == 429:
            headers["Retry-After"] = "1"
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
    except ClientDisconnect:
        status, body = 400, {"error": "the connection ended before the body did"}  # nobody reads it; metrics count it
    except Exception:
        # An answer all the same: the query may have been counted, and its client is told so by the headers.
        _log.exception("%s %s failed", request.method, request.url.path)
        status, body = 500, {"error": "internal error; the query may have been counted"}
    if client is not None:
        headers |= await run_in_threadpool(_rate_limit, service, client)
    return JSONResponse(body, status, headers)


def _rate_limit(service: Service, client: str) -> dict[str, str]:
    try:
        standing, seconds = service.standing(client)
    except Exception:
        _log.exception("the quota store cannot be read")
        return {}
    return {
        "RateLimit-Limit": str(standing.limit),
        "RateLimit-Remaining": str(standing.remaining),
        "RateLimit-Reset": str(seconds),
    }


async def read_body(request: Request) -> bytes:
    """The whole body, never holding more than the limit of it. Raises `Refusal` 413, or 408 for one that dawdles."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                if len(body) + len(chunk) > MAX_QUERY_BYTES:
                    raise too_large()
                body += chunk
    except TimeoutError as exc:
        raise Refusal(408, f"the body did not arrive within {BODY_SECONDS:g} s") from exc
    return bytes(body)


async def _http_error(request: Request, exc: Exception) -> Response:
    """404 and 405 in the same form as every other error."""
    assert isinstance(exc, HTTPException)
    return JSONResponse({"error": str(exc.detail)}, exc.status_code, exc.headers)
