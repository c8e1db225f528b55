"""What goes wrong, as callers see it: OpenAI's error shape, everywhere.

    ApiError                 raised by the routes themselves
    └ anything in `TABLE`    raised below, by packages that know no HTTP, and mapped here

Knows status codes and words. Does not know when an error is raised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from adapters import adapter, engine, slots
from adapters import errors as disk
from feedback import connection, events
from service import auth, generation, presence

RETRY_SECONDS = 1

# What was raised → status and code. The message is the error's own words, unless it is given here.
TABLE: dict[type[Exception], tuple[int, str] | tuple[int, str, str]] = {
    auth.IdInUse: (409, "id_in_use"),
    auth.NoSuchUser: (404, "user_not_found"),
    presence.Closed: (401, "invalid_api_key", "this user has been deleted"),
    presence.StillBusy: (503, "still_busy"),
    presence.UnderWay: (429, "under_way"),
    disk.UnknownUser: (401, "invalid_api_key", "this user has been deleted"),
    events.UserGone: (401, "invalid_api_key", "this user has been deleted"),
    generation.Busy: (429, "overloaded", "the service has as many answers under way as it takes on; try again soon"),
    generation.ShareTaken: (429, "overloaded"),
    slots.NoFreeSlot: (429, "overloaded", "every place for an adapter is in use; try again soon"),
    generation.Stopping: (503, "stopping", "the service is stopping"),
    generation.EngineFailed: (500, "engine_failed", "the model failed on this answer; the service's log says where"),
    engine.PromptTooLong: (400, "context_length_exceeded"),
    events.UnknownMessage: (404, "message_not_found"),
    events.NotEnded: (409, "message_not_ended"),
    events.NotRated: (404, "feedback_not_found"),
    events.KeyConflict: (409, "idempotency_conflict"),
    events.NothingRated: (409, "nothing_rated"),
    events.UnknownRound: (404, "round_not_found"),
    disk.UnknownVersion: (404, "version_not_found"),
    disk.NotKept: (409, "version_not_kept"),
    disk.Overtaken: (409, "overtaken", "something newer happened to the adapter meanwhile; look at it and try again"),
    disk.StoreFull: (503, "disk_full", "the service's disk is full; send this again later"),
    adapter.BadAdapter: (400, "bad_adapter"),
    connection.StoreFull: (503, "redis_full", "the service's store is full; send this again later"),
    connection.StoreUnavailable: (503, "redis_unavailable", "the service's store does not answer; try again soon"),
}  # fmt: skip

OPENAPI = {
    "description": "An error, in OpenAI's shape",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["error"],
                "properties": {
                    "error": {
                        "type": "object",
                        "required": ["message", "type", "code", "param"],
                        "properties": {
                            "message": {"type": "string"},
                            "type": {"type": "string"},
                            "code": {"type": "string"},
                            "param": {"type": ["string", "null"]},
                        },
                    }
                },
            },
            "example": {
                "error": {
                    "message": "rating: Input should be 'up' or 'down'",
                    "type": "invalid_request_error",
                    "code": "invalid_value",
                    "param": "rating",
                }
            },
        }
    },
}


class ApiError(Exception):
    """An answer other than success. `message` says what was wrong and what would be right."""

    def __init__(self, status: int, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param


def as_api_error(error: Exception) -> ApiError | None:
    """What callers are told of an error; None for one that nobody foresaw."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, HTTPException):
        return from_http(error.status_code, str(error.detail))
    for known in type(error).__mro__:
        if entry := TABLE.get(known):
            status, code, *words = entry
            return ApiError(status, code, words[0] if words else str(error))
    return None


def unforeseen() -> ApiError:
    return ApiError(500, "internal_error", "something went wrong in the service; its log says where")


def body_of(error: ApiError) -> dict[str, Any]:
    """The error as JSON."""
    special = {401: "authentication_error", 429: "rate_limit_error"}
    kind = special.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    return {"error": {"message": error.message, "type": kind, "code": error.code, "param": error.param}}


def respond(error: ApiError) -> JSONResponse:
    """The error as a response; whoever may come back is told when."""
    headers = {}
    if error.status in (429, 503):
        headers["Retry-After"] = str(RETRY_SECONDS)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body_of(error), error.status, headers)


def from_validation(errors: Sequence[Any]) -> ApiError:
    """The first thing that is wrong with a body, a query or a path, by its field's name."""
    first = errors[0]
    if first["type"] == "json_invalid":
        return ApiError(400, "invalid_json", f"the body is not valid JSON: {first['ctx']['error']}")
    place = [str(part) for part in first["loc"][1:] if not str(part).startswith("(")]
    param = ".".join(place) or None
    what = (
        "this field is not known here; leave it out" if first["type"] == "extra_forbidden" else first["msg"]
    )
    what = what.removeprefix("Value error, ")
    if param:
        return ApiError(400, "invalid_value", f"{param}: {what}", param)
    if first["type"] == "value_error":  # one of our own, about the body as a whole
        return ApiError(400, "invalid_value", what)
    return ApiError(
        400, "invalid_body", "the body must be a JSON object, with Content-Type: application/json"
    )


def from_http(status: int, detail: str) -> ApiError:
    """What the framework itself refuses."""
    words = {
        400: ("invalid_body", "the body cannot be read; send JSON in UTF-8"),
        413: ("body_too_large", detail),
        404: ("not_found", "there is no such call; /docs lists all of them"),
        405: ("method_not_allowed", "this call is not made with this method; /docs says with which"),
    }
    code, message = words.get(status, ("http_error", detail))
    return ApiError(status, code, message)


async def on_validation(_: Request, error: Exception) -> JSONResponse:
    """For `RequestValidationError`."""
    assert isinstance(error, RequestValidationError)
    return respond(from_validation(error.errors()))


async def on_http(_: Request, error: Exception) -> JSONResponse:
    """For starlette's `HTTPException`."""
    assert isinstance(error, HTTPException)
    response = respond(from_http(error.status_code, str(error.detail)))
    response.headers.update(error.headers or {})
    return response


async def on_known(_: Request, error: Exception) -> JSONResponse:
    """For `ApiError` and everything in the table."""
    known = as_api_error(error)
    assert known is not None
    return respond(known)
