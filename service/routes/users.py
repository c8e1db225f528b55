"""The operator's calls about users."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from starlette.responses import Response

from adapters.errors import UnknownUser
from feedback.connection import StoreFull
from service.auth import Account, IdInUse, new_uid
from service.callers import AsOperator, KeyFirst, Running
from service.deletion import delete_user
from service.errors import ApiError
from service.examples import USER, answers
from service.parts import Parts
from service.schemas import NewUser
from service.welcome import forget_first_user

router = APIRouter(tags=["users"], dependencies=[AsOperator], route_class=KeyFirst)


@router.post("/v1/users", status_code=201, responses=answers(USER, 201))
def add(parts: Running, body: NewUser | None = None) -> dict[str, str]:
    """A new user. The key is shown this once. 409 for an id in use."""
    uid = new_uid()
    parts.store.create(uid)  # first, so that a user in Redis always has a folder
    try:
        account, key = parts.accounts.add(body.id if body else None, uid)
    except (IdInUse, StoreFull):  # nothing else is a sure no: a folder without a user goes at the next start
        parts.store.remove(uid)
        raise
    return {"id": account.id, "api_key": key}


@router.post("/v1/users/{id}/keys", status_code=201, responses=answers(USER, 201))
def new_key(parts: Running, id: str) -> dict[str, str]:
    """A new key for the user; the old one stops working."""
    key = parts.accounts.rotate(id)
    forget_first_user(parts.settings, id)
    return {"id": id, "api_key": key}


@router.get("/v1/users")
def page(
    parts: Running, limit: Annotated[int, Query(ge=1, le=1000)] = 100, after: str | None = None
) -> dict[str, Any]:
    """Users in the order in which they were made. `after` takes the `next` of the page before."""
    if after is not None and not (after.isascii() and after.isdigit() and len(after) < 16):
        raise ApiError(400, "invalid_value", "after: must be the `next` of another page", "after")
    accounts, following = parts.accounts.page(limit, int(after or 0))
    data = []
    for account in accounts:
        with suppress(UnknownUser):  # deleted since the page was read
            data.append(_shown(parts, account))
    return {"data": data, "next": following and str(following)}


@router.delete("/v1/users/{id}", status_code=204)
async def remove(parts: Running, id: str) -> Response:
    """Nothing of the user is left."""
    account = await run_in_threadpool(parts.accounts.named, id)
    await delete_user(parts, account.uid)
    return Response(status_code=204)


def _shown(parts: Parts, account: Account) -> dict[str, Any]:
    counts = parts.ratings.counts(account.uid)
    return {
        "id": account.id,
        "created": account.created,
        "messages": parts.messages.count(account.uid),
        "thumbs": counts.up + counts.down,
        "active_version": parts.store.head(account.uid).active,
    }
