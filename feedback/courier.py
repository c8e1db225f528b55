"""The way of asyncio tasks to Redis: what has come while one load was under way goes together in the next.

Knows asyncio and the store. Does not know what the calls do. A load is one round trip and one wait for the disk,
however many calls are in it, so that a hundred ratings wait for the disk as long as one.
"""

from __future__ import annotations

import asyncio
import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from feedback.calls import Call
from feedback.connection import Store, StoreUnavailable

T = TypeVar("T")

MOST = 100  # calls in a load, so that Redis is never busy for long


class Courier:
    """For the tasks of one event loop. Calls of different loads are done in the order in which they came."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, "courier")  # its own: a load stands behind no long deletion
        self._waiting: list[tuple[Call[Any], asyncio.Future[Any]]] = []
        self._round: asyncio.Task[None] | None = None

    async def do(self, call: Call[T]) -> T:
        """As `Store.do`. A caller that is cancelled may find the call done all the same."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((call, reply))
        if self._round is None or self._round.done():
            self._round = asyncio.create_task(self._go())
        return call.result(await reply)

    def close(self) -> None:
        """Ends the thread, once the load under way is done."""
        self._thread.shutdown()

    async def _go(self) -> None:
        """Until nothing waits any more; whatever ends it before, nobody is left waiting."""
        loop, load = asyncio.get_running_loop(), self._waiting[:0]
        try:
            while self._waiting:
                load, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
                calls = [call for call, _ in load]
                try:
                    replies = await loop.run_in_executor(self._thread, self._store.together, calls)
                except Exception as error:  # noqa: BLE001 - whatever it was, each of the callers raises it
                    replies = [_own(error) for _ in load]
                for (_, reply), found in zip(load, replies, strict=True):
                    _tell(reply, found)
        finally:
            left, self._waiting = load + self._waiting, []
            for _, reply in left:
                _tell(reply, StoreUnavailable("the way to Redis broke off; the call may be done"))


def _tell(reply: asyncio.Future[Any], found: Any) -> None:
    if not reply.done():  # else it has been told, or its caller was cancelled
        reply.set_result(found)


def _own(error: Exception) -> Exception:
    """The error once more: one object that many tasks raise would gather the traces of all of them."""
    own = copy.copy(error)
    own.__cause__ = error
    return own
