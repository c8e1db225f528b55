"""Is it alive, is it ready, how is it doing: for the operator's machines, without a key and without any user's data."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from service.callers import Running
from service.errors import RETRY_SECONDS
from service.metrics import CONTENT_TYPE

router = APIRouter(tags=["operator"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process lives."""
    return {"status": "ok"}


@router.get("/readyz", response_model=None)
def readyz(parts: Running) -> JSONResponse:
    """200 when chats are answered, else 503 and why. `durability` says whether a rating is on disk when its call ends."""
    why = parts.not_ready()
    answer: dict[str, Any] = {"status": "unready" if why else "ready", "model": parts.model.name}
    answer |= {"durability": parts.durability.level, "durability_why": parts.durability.why}
    if why:
        return JSONResponse({**answer, "reasons": why}, 503, {"Retry-After": str(RETRY_SECONDS)})
    return JSONResponse(answer)


@router.get("/metrics", response_class=Response)
def metrics(parts: Running) -> Response:
    """Prometheus."""
    return Response(parts.metrics.text(), media_type=CONTENT_TYPE)
