"""What the user asked and what was answered."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from service.callers import KeyFirst, Running, User
from service.examples import MESSAGE, answers
from service.examples import page as page_of
from service.shown import message_shown

router = APIRouter(tags=["messages"], route_class=KeyFirst)


@router.get("/v1/messages", responses=page_of(MESSAGE))
def page(
    parts: Running, user: User, limit: Annotated[int, Query(ge=1, le=100)] = 20, before: str | None = None
) -> dict[str, Any]:
    """The user's messages, newest first. `before` takes the `next` of the page before, or a message's id."""
    found = parts.messages.list(user.uid, limit + 1, before)  # one more tells whether there is another page
    ratings = parts.ratings.of(user.uid, [message.id for message in found])
    shown = [message_shown(message, ratings.get(message.id)) for message in found[:limit]]
    return {"data": shown, "next": found[limit - 1].id if len(found) > limit else None}


@router.get("/v1/messages/{id}", responses=answers(MESSAGE))
def one(parts: Running, user: User, id: str) -> dict[str, Any]:
    """One of the user's messages; anybody else's is 404."""
    return message_shown(parts.messages.get(user.uid, id), parts.ratings.get(user.uid, id))
