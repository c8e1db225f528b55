"""The way of asyncio tasks to Redis: what has come while one load was under way goes together in the next.

Knows asyncio and the store. Does not know what the calls do. A load is one round trip and one wait for the disk,
however many calls are in it, so that a hundred ratings wait for the disk as long as one.
"""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from feedback.connection import Call, Store

T = TypeVar("T")

MOST = 100  # calls in a load, so that Redis is never busy for long


class Courier:
    """For the tasks of one event loop. Calls of different loads are done in the order in which they came."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[tuple[Call[Any], asyncio.Future[Any]]] = []
        self._round: asyncio.Task[None] | None = None

    async def do(self, call: Call[T]) -> T:
        """As `Store.do`. A caller that is cancelled may find the call done all the same."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((call, reply))
        if self._round is None:
            self._round = asyncio.create_task(self._go())
        return call.result(await reply)

    async def _go(self) -> None:
        """Until nothing waits any more."""
        while self._waiting:
            load, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            try:
                replies = await asyncio.to_thread(self._store.together, [call for call, _ in load])
            except Exception as error:  # noqa: BLE001 - whatever it was, each of the callers raises it
                replies = [error] * len(load)
            for (_, reply), found in zip(load, replies, strict=True):
                if not reply.done():  # else its caller was cancelled
                    reply.set_result(found)
        self._round = None
