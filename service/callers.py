"""Who a call is from, as FastAPI dependencies: a user, a user who is about to write something, or the operator.

Knows the Authorization header. The user is the one whom the key belongs to; nothing else in a call can name another.
They are asynchronous and do not depend on each other: a plain function would be a trip to a thread, and each link of a
chain costs as much as the rating that it lets through.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException
from starlette.responses import Response

from service.auth import Account
from service.errors import ApiError
from service.parts import Parts

_user_key = HTTPBearer(auto_error=False, scheme_name="user key")
_admin_key = HTTPBearer(auto_error=False, scheme_name="admin key")

Given = Annotated[HTTPAuthorizationCredentials | None, Depends(_user_key)]


async def parts_of(request: Request) -> Parts:
    """The running service."""
    parts: Parts = request.app.state.parts
    return parts


async def caller(request: Request, given: Given) -> Account:
    """The user whose key came with the call, else 401."""
    if given is None:
        raise _unauthorised("this call needs a user's key, as `Authorization: Bearer <key>`")
    parts = await parts_of(request)
    account = await parts.courier.do(parts.accounts.holder(given.credentials))
    if account is None:
        if parts.admin.matches(given.credentials):
            raise _unauthorised("this is the operator's key; this call needs a user's")
        raise _unauthorised("no user has this key; a new one comes from POST /v1/users/{id}/keys")
    return account


async def writer(request: Request, given: Given) -> AsyncIterator[Account]:
    """The same, for a call that writes: a deletion of the user waits until it has ended."""
    account = await caller(request, given)
    parts = await parts_of(request)
    with parts.presence.inside(account.uid):
        yield account


async def operator(
    parts: Annotated[Parts, Depends(parts_of)],
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(_admin_key)],
) -> None:
    """Passes the operator, else 401."""
    if given is None or not parts.admin.matches(given.credentials):
        raise _unauthorised("this call needs the operator's key, as `Authorization: Bearer <key>`")


def _unauthorised(message: str) -> ApiError:
    return ApiError(401, "invalid_api_key", message)


Running = Annotated[Parts, Depends(parts_of)]
User = Annotated[Account, Depends(caller)]
Writer = Annotated[Account, Depends(writer)]
AsOperator = Depends(operator)


class KeyFirst(APIRoute):
    """A call with a key: whoever sends a wrong one is told of that, whatever the body is like."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def key_first(request: Request) -> Response:
            try:
                return await answer(request)
            except (RequestValidationError, HTTPException):
                # FastAPI gives up on a body that it cannot parse before it asks who is calling.
                await self._ask_who(request)
                raise

        return key_first

    async def _ask_who(self, request: Request) -> None:
        if AsOperator in self.dependencies:
            await operator(await parts_of(request), await _admin_key(request))
        else:
            await caller(request, await _user_key(request))
