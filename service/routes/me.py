"""The user's own account."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse

from service.callers import Running, User
from service.deletion import delete_user
from service.takeout import takeout

router = APIRouter(tags=["me"])


@router.get("/v1/me")
def me(parts: Running, user: User) -> dict[str, Any]:
    """Who the key belongs to."""
    return {"id": user.id, "created": user.created, **parts.tally(user.uid)}


@router.get("/v1/me/data", response_class=StreamingResponse)
def data(parts: Running, user: User) -> StreamingResponse:
    """A zip of everything: messages and feedback as JSON Lines, every adapter version."""
    pieces = takeout(user, parts.messages, parts.ratings, parts.store)
    headers = {"Content-Disposition": 'attachment; filename="thumbtune.zip"'}
    return StreamingResponse(pieces, media_type="application/zip", headers=headers)


@router.delete("/v1/me", status_code=204)
def remove(parts: Running, user: User) -> Response:
    """Nothing of the user is left, keys included."""
    delete_user(parts, user.uid)
    return Response(status_code=204)
