"""The user's own adapter: what it has learnt, its versions, and the rounds in which it learns."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from adapters.export import pack
from service import learning, progress
from service.bring_in import bring_in
from service.callers import KeyFirst, Running, User, Writer
from service.errors import ApiError
from service.examples import ADAPTER, ROUND, VERSION, answers, page
from service.parts import Parts
from service.schemas import Reset, Rollback
from service.shown import round_shown, version_shown

router = APIRouter(prefix="/v1/adapter", tags=["adapter"], route_class=KeyFirst)

ARCHIVE = {"application/zip": {"schema": {"type": "string", "format": "binary"}}}


@router.get("", responses=answers(ADAPTER))
def status(parts: Running, user: User) -> dict[str, Any]:
    """What answers now, what was said, and whether it is learning: what it takes you to like, and what came of that."""
    return _status(parts, user.uid)


@router.get("/versions", responses=page(VERSION))
def versions(
    parts: Running, user: User, limit: Annotated[int, Query(ge=1, le=1000)] = 100, before: int | None = None
) -> dict[str, Any]:
    """Every version, newest first. `before` takes the `next` of the page before."""
    every = [each for each in parts.store.versions(user.uid) if before is None or each.version < before]
    following = str(every[limit - 1].version) if len(every) > limit else None
    return {"data": [version_shown(each) for each in every[:limit]], "next": following}


@router.post("/rounds", status_code=202, responses=answers(ROUND, 200, 202))
def start_round(parts: Running, user: Writer, response: Response) -> dict[str, Any]:
    """A round of learning, now: 202; 200 with the one that waits or runs already; 409 while no rating stands."""
    round, new = parts.rounds.request(user.uid)
    response.status_code = 202 if new else 200
    return round_shown(round)


@router.get("/rounds", responses=page(ROUND))
def rounds(
    parts: Running, user: User, limit: Annotated[int, Query(ge=1, le=100)] = 20, before: str | None = None
) -> dict[str, Any]:
    """Every round, newest first. `before` takes the `next` of the page before."""
    gave_way = parts.store.head(user.uid).rolled_back
    found = parts.rounds.list(user.uid, limit + 1, before)  # one more tells whether there is another page
    following = found[limit - 1].id if len(found) > limit else None
    return {"data": [round_shown(each, gave_way) for each in found[:limit]], "next": following}


@router.get("/rounds/{id}", responses=answers(ROUND))
def one_round(parts: Running, user: User, id: str) -> dict[str, Any]:
    """One round and how far it is."""
    return round_shown(parts.rounds.get(user.uid, id), parts.store.head(user.uid).rolled_back)


@router.post("/rollback", responses=answers(ADAPTER))
def rollback(parts: Running, user: Writer, body: Rollback) -> dict[str, Any]:
    """A kept version is active from the next answer on. 409 for one that is held or retired."""
    learning.rollback(parts, user.uid, body.version)
    return _status(parts, user.uid)


@router.post("/reset", responses=answers(ADAPTER))
def reset(parts: Running, user: Writer, body: Reset | None = None) -> dict[str, Any]:
    """Version 0, the base model, is active from the next answer on; `forget_feedback` withdraws all ratings."""
    learning.reset(parts, user.uid, bool(body and body.forget_feedback))
    return _status(parts, user.uid)


@router.get("/export", response_class=Response, responses={200: {"content": ARCHIVE}})
def export(
    parts: Running, user: User, version: int | None = None, format: Literal["peft"] = "peft"
) -> Response:
    """A version (the active one if none is named) as a zip that `peft` and vLLM load as it is."""
    number = parts.store.head(user.uid).active if version is None else version
    if number == 0:
        raise ApiError(
            404, "version_not_found", "version 0 is the base model itself: there is no adapter to export"
        )
    headers = {"Content-Disposition": f'attachment; filename="adapter-{number}.zip"'}
    return Response(pack(parts.store, user.uid, number), media_type="application/zip", headers=headers)


@router.post(
    "/import",
    status_code=201,
    response_model=None,
    responses=answers(VERSION, 201),
    openapi_extra={"requestBody": {"required": True, "content": ARCHIVE}},
)
async def import_(parts: Running, user: User, request: Request) -> dict[str, Any] | Response:
    """A new version from a zip as `export` gives it: active, or held if it fails a check that needs no thumbs."""
    with parts.imports.only(user.uid):  # each holds its archive in memory
        try:
            archive = await request.body()
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it; the log line says what happened
        with parts.presence.inside(user.uid):  # not before: a deletion waits for no body that never ends
            number = await bring_in(parts, user.uid, archive)
            return version_shown(await run_in_threadpool(parts.store.version, user.uid, number))


def _status(parts: Parts, uid: str) -> dict[str, Any]:
    every = parts.store.versions(uid)
    counts = parts.ratings.counts(uid)
    current = parts.rounds.current(uid)
    return {
        "base_model": parts.model.name,
        "active_version": parts.store.head(uid).active,
        "versions": sum(each.state in ("active", "kept") for each in every),
        "feedback": {"up": counts.up, "down": counts.down, "queued": counts.queued, "used": counts.used},
        "reward_model": progress.understood(counts, every),
        "learning": progress.learnt(every),
        "thumbs": progress.liked(parts.ratings.thumbs_by_version(uid)),
        "round": current and round_shown(current),
    }
