"""OpenAI's chat completions and the list of models."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from adapters.errors import UnknownVersion
from service.answers import Piece
from service.auth import Account
from service.callers import KeyFirst, Running, User, Writer
from service.chat import Chat
from service.disconnect import ClientGone, while_connected
from service.errors import as_api_error, body_of, unforeseen
from service.examples import CHAT, answers
from service.frames import frames
from service.parts import Parts
from service.plan import PERSONAL
from service.schemas import ChatRequest

log = logging.getLogger(__name__)
router = APIRouter(tags=["chat"], route_class=KeyFirst)

VERSION_CHANGES = 3  # times in a row that a version may vanish between reading the head and loading it
STALLED_SECONDS = 10.0  # without reading anything, after which a caller is taken for gone


@router.get("/v1/models")
def models(parts: Running, _: User) -> dict[str, Any]:
    """`personal`, the caller's own active adapter version, and `base`, the model without any."""
    owned_by = parts.model.name
    data = [
        {"id": name, "object": "model", "created": 0, "owned_by": owned_by} for name in (PERSONAL, "base")
    ]
    return {"object": "list", "data": data, "next": None}


@router.post("/v1/chat/completions", response_model=None, responses=answers(CHAT))
async def completions(parts: Running, account: Writer, body: ChatRequest, request: Request) -> Response:
    """An answer (or `n`), whole or as server-sent events. Its `id` is the message id that feedback is given on."""
    try:
        chat = await while_connected(request.receive, _begin(parts, account, body))
        if chat.plan.streamed:
            return EventStream(chat, bool(body.stream_options and body.stream_options.include_usage))
        return JSONResponse(await while_connected(request.receive, _whole(chat)))
    except ClientGone:
        return Response(status_code=499)  # nobody reads it; the log line says what happened


async def _begin(parts: Parts, account: Account, body: ChatRequest) -> Chat:
    """A chat whose first text is there. For a version retired just now, what is active instead is taken."""
    for attempt in range(1, VERSION_CHANGES + 1):
        chat = Chat(parts, await run_in_threadpool(parts.planner.plan, account.uid, body))
        try:
            await chat.start()
            return chat
        except UnknownVersion:
            chat.end()
            if attempt == VERSION_CHANGES:
                raise
        except BaseException:
            chat.end()
            raise
    raise AssertionError("the loop returns or raises")


async def _whole(chat: Chat) -> dict[str, Any]:
    """The answer in one piece. Raises what ended it otherwise than by its own end."""
    texts = [""] * len(chat.plan.asks)
    finishes: list[str | None] = [None] * len(texts)
    try:
        async for piece in chat:
            if piece.error:
                raise piece.error
            texts[piece.index] += piece.text
            finishes[piece.index] = piece.finish or finishes[piece.index]
    finally:
        chat.end()
    choices = [
        {
            "index": index,
            "message_id": chat.plan.messages[index].id,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": None,
            "finish_reason": finish,
        }
        for index, (text, finish) in enumerate(zip(texts, finishes, strict=True))
    ]
    return {**_head(chat, "chat.completion"), "choices": choices, "usage": _usage(chat)}


class EventStream(Response):
    """The answers as server-sent events, while the caller is there."""

    def __init__(self, chat: Chat, with_usage: bool) -> None:
        super().__init__(media_type="text/event-stream")
        self.headers["Cache-Control"] = "no-cache"
        self.headers["X-Accel-Buffering"] = "no"  # a proxy must not collect what is meant to flow
        del self.headers["Content-Length"]
        self._chat = chat
        self._with_usage = with_usage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await while_connected(receive, self._send_all(send))
        except ClientGone:
            pass
        finally:
            self._chat.end()

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for event in self._events():
            await self._send(send, f"data: {event}\n\n".encode())
        await self._send(send, b"", more=False)

    async def _send(self, send: Send, data: bytes, more: bool = True) -> None:
        """Raises `ClientGone` where nobody reads: a deletion and a stop wait until this call has ended."""
        try:
            async with asyncio.timeout(STALLED_SECONDS):
                await send({"type": "http.response.body", "body": data, "more_body": more})
        except TimeoutError:
            raise ClientGone from None

    async def _events(self) -> AsyncIterator[str]:
        try:
            for index in range(len(self._chat.plan.asks)):
                yield self._chunk(index, {"role": "assistant", "content": ""})
            async for piece in self._chat:
                if piece.error:
                    raise piece.error
                for event in self._chunks(piece):
                    yield event
        except Exception as error:  # noqa: BLE001 - the status has been sent: an event is all that can still tell
            known = as_api_error(error)
            if known is None:
                log.error("%s in a stream:\n%s", type(error).__name__, frames(error))
            yield json.dumps(body_of(known or unforeseen()))
            return
        if self._with_usage:
            yield json.dumps({**self._head(), "choices": [], "usage": _usage(self._chat)})
        yield "[DONE]"

    def _chunks(self, piece: Piece) -> Iterable[str]:
        if piece.text:
            yield self._chunk(piece.index, {"content": piece.text})
        if piece.finish:
            yield self._chunk(piece.index, {}, piece.finish)

    def _chunk(self, index: int, delta: dict[str, str], finish: str | None = None) -> str:
        choice = {
            "index": index,
            "message_id": self._chat.plan.messages[index].id,
            "delta": delta,
            "logprobs": None,
            "finish_reason": finish,
        }
        usage = {"usage": None} if self._with_usage else {}
        return json.dumps({**self._head(), "choices": [choice], **usage})

    def _head(self) -> dict[str, Any]:
        return _head(self._chat, "chat.completion.chunk")


def _head(chat: Chat, kind: str) -> dict[str, Any]:
    """What the answer and each chunk of it begin with."""
    first = chat.plan.messages[0]
    return {
        "id": first.id,
        "object": kind,
        "created": first.created,
        "model": chat.plan.model,
        "adapter_version": chat.plan.version,
    }


def _usage(chat: Chat) -> dict[str, int]:
    """Tokens read and written, the end token included."""
    prompt, completion = chat.plan.prompt_tokens, sum(chat.completion_tokens)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
