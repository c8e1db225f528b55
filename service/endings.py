"""The ends of answers on their way into the message log.

Knows the log, and that Redis may be away for a while. Does not know engines or HTTP.
"""

from __future__ import annotations

import asyncio

from feedback.connection import StoreFull, StoreUnavailable
from feedback.events import UnknownMessage, UserGone
from feedback.messages import MessageLog
from service.presence import Closed, Presence


class Endings:
    """Writes the ends of answers into the log; while Redis is away, again and again until it is back."""

    def __init__(self, log: MessageLog, presence: Presence) -> None:
        self._log = log
        self._presence = presence
        self._tasks: set[asyncio.Task[None]] = set()

    def write(self, uid: str, message_id: str, answer: str, reason: str) -> asyncio.Task[None]:
        """Begins to write, whatever becomes of the caller; the task ends when it is on disk."""
        task = asyncio.create_task(self._write(uid, message_id, answer, reason))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def settle(self, seconds: float) -> int:
        """Waits for what is being written; returns how much of it was not done in time."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        return len(self._tasks)

    async def _write(self, uid: str, message_id: str, answer: str, reason: str) -> None:
        try:
            with self._presence.inside(uid):
                while True:
                    try:
                        await asyncio.to_thread(self._log.finish, uid, message_id, answer, reason)
                        return
                    except (StoreUnavailable, StoreFull):
                        await asyncio.sleep(0.2)
        except (Closed, UserGone):
            pass  # the user is being deleted, and so is this message
        except UnknownMessage:
            if reason != "cancelled":
                raise
            # Redis went away before it took the beginning: there is nothing to end.
