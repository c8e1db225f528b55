"""An answer on its way to a caller who does not read, and one that fails on its way."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any

from service.routes import chat as route


class Chat:
    """One answer, whose text has no end, or which fails at once."""

    def __init__(self, error=None):
        self.error = error
        message = SimpleNamespace(id="msg_1", created=0)
        self.plan = SimpleNamespace(asks=[1], messages=[message], model="personal", version=0)
        self.ended = False

    def __aiter__(self):
        return self

    async def __anext__(self):
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        return SimpleNamespace(index=0, text="and so on ", finish=None, error=None)

    def end(self):
        self.ended = True


def test_a_caller_who_reads_nothing_more_is_taken_for_gone(monkeypatch):
    """Else the call would never end, and a deletion of the user and a stop of the service wait for that."""
    monkeypatch.setattr(route, "STALLED_SECONDS", 0.05)
    chat: Any = Chat()
    sent = []

    async def send(message):
        sent.append(message)
        if len(sent) > 10:  # from here on the line takes no more
            await asyncio.Event().wait()

    async def receive():
        return await asyncio.Event().wait()

    async def stream():
        answer = route.EventStream(chat, with_usage=False)
        scope: Any = {"type": "http"}
        await asyncio.wait_for(answer(scope, receive, send), 10)

    asyncio.run(stream())
    assert chat.ended and len(sent) == 11


def test_an_error_that_nobody_foresaw_is_logged_where_the_caller_is_told_to_look(caplog):
    """Its type and its place: its words may quote a user."""
    chat: Any = Chat(KeyError("a user's words"))

    async def told():
        return [event async for event in route.EventStream(chat, with_usage=False)._events()]

    *_, last = asyncio.run(told())
    assert "its log says where" in json.loads(last)["error"]["message"]
    assert "KeyError" in caplog.text and "test_streams.py" in caplog.text
    assert "a user's words" not in caplog.text
