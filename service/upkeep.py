"""What the API does by itself every few seconds while it runs.

Knows what is to be done: deletions and withdrawals that were cut short, versions that people like less than the one
before, and numbers that only Redis has.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal

from feedback.connection import StoreError
from service.deletion import finish_deletion, finish_rewrite
from service.frames import frames
from service.learning import DISK_ERRORS, finish_withdrawals
from service.parts import Parts
from service.presence import StillBusy
from service.watching import watch

log = logging.getLogger(__name__)

EVERY_SECONDS = 2.0


async def upkeep(parts: Parts) -> None:
    """Ends by being cancelled, or with the process when there is no engine any more."""
    reachable = True
    while True:
        if not parts.generation.alive:
            log.critical("the engine's thread has died; the process ends, to be started anew")
            os.kill(os.getpid(), signal.SIGTERM)
            return
        try:
            await asyncio.to_thread(_once, parts)
            await _finish_deletions(parts)
            await finish_rewrite(parts)
            if not reachable:
                log.warning("Redis answers again")
            reachable = True
        except StoreError as error:
            parts.metrics.redis_up.set(0)
            if reachable:
                log.error("chats and ratings get 503 until this is over: %s", error)
            reachable = False
        except Exception as error:  # noqa: BLE001 - what one person's records lead to may not end it for all the others
            log.error("upkeep failed with %s and goes on:\n%s", type(error).__name__, frames(error))
        await asyncio.sleep(EVERY_SECONDS)


def _once(parts: Parts) -> None:
    parts.metrics.due_users.set(parts.queue.size().due)
    parts.metrics.redis_up.set(1)
    finish_withdrawals(parts)
    watch(parts)


async def _finish_deletions(parts: Parts) -> None:
    for uid in await asyncio.to_thread(parts.accounts.leaving):
        try:
            await finish_deletion(parts, uid)
        except StillBusy:
            log.info("a deletion waits for its user's last call")
        except DISK_ERRORS as error:
            log.error("a deletion waits for the disk: %s", error)
