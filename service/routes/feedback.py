"""What the user thinks of an answer."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header
from starlette.responses import JSONResponse

from feedback.events import NotRated
from service import learning
from service.callers import KeyFirst, Running, User, Writer
from service.errors import ApiError
from service.examples import FEEDBACK, answers
from service.parts import Parts
from service.schemas import Rating, RatingOf
from service.shown import feedback_shown

router = APIRouter(tags=["feedback"], route_class=KeyFirst)


@router.put("/v1/messages/{id}/feedback", responses=answers(FEEDBACK))
async def put(parts: Running, user: Writer, id: str, body: Rating) -> JSONResponse:
    """Rates a message, or rates it anew; on disk when this answers. The same body again changes nothing."""
    return await _rate(parts, user.uid, id, body, None)


@router.post("/v1/feedback", responses=answers(FEEDBACK))
async def post(
    parts: Running,
    user: Writer,
    body: RatingOf,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> JSONResponse:
    """The same for clients that cannot PUT. With one `Idempotency-Key` it is done once, however often it is sent."""
    return await _rate(parts, user.uid, body.message_id, body, idempotency_key)


@router.get("/v1/messages/{id}/feedback", responses=answers(FEEDBACK))
def get(parts: Running, user: User, id: str) -> dict[str, Any]:
    """The rating as it stands, or withdrawn."""
    parts.messages.get(user.uid, id)  # 404 by the message's own name, if there is none
    feedback = parts.ratings.get(user.uid, id)
    if feedback is None:
        raise NotRated("this message has no rating")
    return feedback_shown(feedback)


@router.delete("/v1/messages/{id}/feedback", responses=answers(FEEDBACK))
def delete(parts: Running, user: Writer, id: str) -> dict[str, Any]:
    """Withdraws the rating: from the next answer on no version shaped by it answers."""
    parts.messages.get(user.uid, id)
    feedback = learning.withdraw(parts, user.uid, id)
    parts.metrics.ratings.labels("withdrawn").inc()
    return feedback_shown(feedback)


async def _rate(parts: Parts, uid: str, message_id: str, body: Rating, key: str | None) -> JSONResponse:
    _check(parts, body)
    feedback = await learning.rate(parts, uid, message_id, body, key)
    parts.metrics.ratings.labels(body.rating).inc()
    return JSONResponse(feedback_shown(feedback))


def _check(parts: Parts, body: Rating) -> None:
    """The limits that are settings."""
    limits = parts.settings
    sizes = {
        "comment": (len(body.comment or ""), limits.max_comment, "characters"),
        "correction": (len(body.correction or ""), limits.max_correction, "characters"),
        "tags": (len(body.tags or []), limits.max_tags, "tags"),
        "tags.0": (max(map(len, body.tags or []), default=0), limits.max_tag, "characters a tag"),
    }
    for param, (size, most, unit) in sizes.items():
        if size > most:
            raise ApiError(400, "too_long", f"{param}: {size} {unit}; at most {most} are taken", param)
