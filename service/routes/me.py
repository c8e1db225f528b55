"""The user's own account."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse

from service.callers import KeyFirst, Running, User
from service.deletion import delete_user
from service.takeout import takeout

router = APIRouter(tags=["me"], route_class=KeyFirst)


@router.get("/v1/me")
def me(parts: Running, user: User) -> dict[str, Any]:
    """Whose key this is."""
    counts = parts.ratings.counts(user.uid)
    messages = parts.messages.count(user.uid)
    return {"id": user.id, "created": user.created, "messages": messages, "thumbs": counts.up + counts.down}


@router.get("/v1/me/data", response_class=StreamingResponse)
def data(parts: Running, user: User) -> StreamingResponse:
    """A zip of everything: messages and feedback as JSON Lines, every adapter version."""
    headers = {"Content-Disposition": 'attachment; filename="thumbtune.zip"'}
    return StreamingResponse(takeout(parts, user), media_type="application/zip", headers=headers)


@router.delete("/v1/me", status_code=204)
async def remove(parts: Running, user: User) -> Response:
    """Nothing of the user is left, keys included."""
    await delete_user(parts, user.uid)
    return Response(status_code=204)
