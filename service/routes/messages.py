"""What the user asked and what was answered."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from feedback.events import Feedback, Message
from service.callers import Running, User
from service.shown import feedback_shown

router = APIRouter(tags=["messages"])


@router.get("/v1/messages")
def page(
    parts: Running, user: User, limit: Annotated[int, Query(ge=1, le=100)] = 20, before: str | None = None
) -> dict[str, Any]:
    """The user's messages, newest first. `before` takes the `next` of the page before, or any message's id."""
    found = parts.messages.list(user.uid, limit + 1, before)
    shown = found[:limit]
    ratings = parts.ratings.of(user.uid, [message.id for message in shown])
    data = [_shown(message, ratings.get(message.id)) for message in shown]
    return {"data": data, "next": shown[-1].id if len(found) > limit else None}


@router.get("/v1/messages/{id}")
def one(parts: Running, user: User, id: str) -> dict[str, Any]:
    """One of the user's messages; anybody else's is 404."""
    message = parts.messages.get(user.uid, id)
    return _shown(message, parts.ratings.of(user.uid, [id]).get(id))


def _shown(message: Message, feedback: Feedback | None) -> dict[str, Any]:
    return {**message.to_json(), "feedback": feedback and feedback_shown(feedback)}
