"""The API as an ASGI app, and the process that serves it.

Knows how routes, errors and parts are put together, when they start and in which order they stop. Does not know what
any of them does.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException

from service import errors
from service.border import Border
from service.parts import Parts, assemble
from service.routes import adapter, chat, feedback, me, messages, operator, users
from service.settings import Settings
from service.starting import bound
from service.upkeep import upkeep

log = logging.getLogger(__name__)

SETTLE_SECONDS = 5.0  # that the log's last writes get when the service stops


def create_app(settings: Settings, parts: Parts) -> FastAPI:
    """The app over assembled parts; its lifespan starts and ends their threads and tasks."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        parts.generation.start()
        keeping = asyncio.create_task(upkeep(parts))
        try:
            yield
        finally:
            keeping.cancel()
            await parts.generation.close()
            if left := await parts.endings.settle(SETTLE_SECONDS):
                log.warning(
                    "%d cut-off answers could not be put into the log; the next start marks them", left
                )

    app = FastAPI(
        title="thumbtune",
        version="0.1.0",
        lifespan=lifespan,
        redirect_slashes=False,
        strict_content_type=False,
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
        },  # metrics.py counts; nothing else leaves here
    )
    app.state.parts = parts
    for module in (chat, messages, feedback, adapter, me, users, operator):
        app.include_router(module.router)
    app.add_middleware(Border, limit=lambda path: _body_limit(settings, path), metrics=parts.metrics)
    app.add_exception_handler(RequestValidationError, errors.on_validation)
    app.add_exception_handler(HTTPException, errors.on_http)
    known: list[type[Exception]] = [errors.ApiError, *errors.TABLE]
    for exception in known:
        app.add_exception_handler(exception, errors.on_known)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT. Raises `CannotStart` and what else `assemble` raises, before it listens."""
    with bound(settings) as listener:
        parts = assemble(settings)
        try:
            config = uvicorn.Config(
                create_app(settings, parts),
                log_config=None,
                access_log=False,  # paths hold ids; the border logs routes
                server_header=False,
                proxy_headers=False,  # nobody here asks where a call came from
                # Beyond the grace time only for what hangs elsewhere.
                timeout_graceful_shutdown=int(settings.grace + SETTLE_SECONDS + 5),
            )
            gc.collect()
            gc.freeze()  # what is here now stays: to look through it again stopped every answer for 0.25 s
            _Server(config, parts).run(sockets=[listener])
        finally:
            parts.close()


class _Server(uvicorn.Server):
    """Tells the answers under way of the stop at once; uvicorn itself would wait for them without end."""

    def __init__(self, config: uvicorn.Config, parts: Parts) -> None:
        super().__init__(config)
        self._parts = parts

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Does not raise the signal again at the end, as uvicorn would: a stop that was asked for is exit code 0."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        winding = asyncio.create_task(self._parts.generation.wind_down(self._parts.settings.grace))
        await super().shutdown(sockets)
        await winding


def _body_limit(settings: Settings, path: str) -> int:
    return settings.max_import if path == "/v1/adapter/import" else settings.max_body


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's page, with our error shape in place of its own."""
    if app.openapi_schema is None:
        page = get_openapi(title=app.title, version=app.version, routes=app.routes)
        for path in page["paths"].values():
            for call in path.values():
                call["responses"].pop("422", None)
                call["responses"]["default"] = errors.OPENAPI
        page["components"]["schemas"].pop("HTTPValidationError", None)
        page["components"]["schemas"].pop("ValidationError", None)
        app.openapi_schema = page
    return app.openapi_schema
