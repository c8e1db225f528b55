"""The outermost layer of the app: body size, one log line and one count a request, and no traceback to a caller.

Knows ASGI messages. Does not know routes or what they do. Nothing that a caller sent is logged: a path is
logged as its route's pattern, an error as its type and place, since its words may quote a user.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import as_api_error, respond, unforeseen
from service.frames import frames
from service.metrics import Metrics

log = logging.getLogger(__name__)


class TooLarge(HTTPException):
    """The body is larger than this call takes. An HTTPException, for the framework passes on no others from a body."""

    def __init__(self, limit: int) -> None:
        super().__init__(413, f"the body is larger than {limit} bytes; send less")


class Border:
    """Wraps an app. `limit(path)` is the largest body in bytes that a call to this path may have."""

    def __init__(self, app: ASGIApp, limit: Callable[[str], int], metrics: Metrics) -> None:
        self._app = app
        self._limit = limit
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        call = _Call(scope, send)
        try:
            limit = self._limit(scope["path"])
            _check_length(scope, limit)
            await self._app(scope, _limited(receive, limit), call.send)
        except Exception as error:  # noqa: BLE001 - the border: whatever it was, the caller gets a clear answer
            await call.fail(error)
        finally:
            self._count(scope, call)

    def _count(self, scope: Scope, call: _Call) -> None:
        route = getattr(scope.get("route"), "path", "(none)")
        seconds = time.monotonic() - call.began
        self._metrics.requests.labels(route, _method(scope), str(call.status)).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        log.info("%s %s %d %.0f ms", _method(scope), route, call.status, seconds * 1000)


class _Call:
    """One request's answer on its way out."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self.began = time.monotonic()
        self.status = 0  # 0: nothing was answered, as when the client left first

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)

    async def fail(self, error: Exception) -> None:
        """Answers with the error, if no answer has begun."""
        known = as_api_error(error)
        if known is None:
            log.error("%s in a call:\n%s", type(error).__name__, frames(error))
        if not self.status:
            await respond(known or unforeseen())(self._scope, _nothing, self.send)


def _method(scope: Scope) -> str:
    """The method as a label; a made-up one must not make a new time series."""
    known = scope["method"] in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    return scope["method"] if known else "(other)"


def _check_length(scope: Scope, limit: int) -> None:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            raise TooLarge(limit)


def _limited(receive: Receive, limit: int) -> Receive:
    """`receive`, which raises `TooLarge` once more than `limit` bytes have come, whatever was announced."""
    total = 0

    async def counted() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > limit:
            raise TooLarge(limit)
        return message

    return counted


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
