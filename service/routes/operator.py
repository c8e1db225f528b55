"""Is it alive, is it ready, how is it doing: for the operator's machines, without a key and without any user's data."""

from __future__ import annotations

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
    """200 when chats are answered, else 503 and why. `durability`: is a rating on disk when its call ends?"""
    why = parts.not_ready()
    answer = {
        "status": "unready" if why else "ready",
        "reasons": why,
        "model": parts.model.name,
        "durability": parts.durability.level,
        "durability_reasons": parts.durability.why,
    }
    return JSONResponse(answer, 503 if why else 200, {"Retry-After": str(RETRY_SECONDS)} if why else {})


@router.get("/metrics", response_class=Response)
def metrics(parts: Running) -> Response:
    """Prometheus."""
    return Response(parts.metrics.text(), media_type=CONTENT_TYPE)
