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

RETRY_SECONDS = 1


class ApiError(Exception):
    """An answer other than success. `message` says what was wrong and what would be right."""

    def __init__(self, status: int, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param


def kind(status: int) -> str:
    """OpenAI's `type` of an error with this status."""
    special = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    return special.get(status, "invalid_request_error" if status < 500 else "server_error")


def body(error: ApiError) -> dict[str, Any]:
    """The error as JSON."""
    inner = {"message": error.message, "type": kind(error.status), "code": error.code, "param": error.param}
    return {"error": inner}


def respond(error: ApiError) -> JSONResponse:
    """The error as a response; whoever may come back is told when."""
    headers = {}
    if error.status in (429, 503):
        headers["Retry-After"] = str(RETRY_SECONDS)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body(error), error.status, headers)


def from_validation(errors: Sequence[dict[str, Any]]) -> ApiError:
    """The first thing that is wrong with a body, a query or a path, by its field's name."""
    first = errors[0]
    place = [str(part) for part in first["loc"][1:] if not str(part).startswith("(")]
    if first["type"] == "json_invalid":
        return ApiError(400, "invalid_json", f"the body is not valid JSON: {first['ctx']['error']}")
    param = ".".join(place) or None
    what = "this field is not known here; leave it out" if first["type"] == "extra_forbidden" else first["msg"]
    what = what.removeprefix("Value error, ")
    return ApiError(400, "invalid_value", f"{param or 'the body'}: {what}", param)


def from_http(status: int, detail: str) -> ApiError:
    """What the framework itself refuses."""
    words = {
        404: ("not_found", "there is no such call; /docs lists all of them"),
        405: ("method_not_allowed", "this call is not made with this method; /docs says with which"),
    }
    code, message = words.get(status, ("http_error", detail))
    return ApiError(status, code, message)


async def on_validation(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return respond(from_validation(error.errors()))


async def on_http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return respond(from_http(error.status_code, str(error.detail)))


async def on_api(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return respond(error)
