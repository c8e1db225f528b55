"""How a user goes, so that nothing is left and nothing comes back.

Knows the order: first nobody gets in, then everything under way ends, then the adapters go, the records, the account,
and what Redis's file still has of them. A deletion cut short is in `keys.LEAVING` and finished by upkeep.
While one waits it holds no thread, for those are few and every chat needs one.
"""

from __future__ import annotations

from fastapi.concurrency import run_in_threadpool

from feedback import keys
from feedback.removal import remove_records, rewrite_log
from service.parts import Parts
from service.welcome import forget_first_user

WAIT_SECONDS = 15.0  # for the user's own calls to end


async def delete_user(parts: Parts, uid: str) -> None:
    """Returns when nothing of the user is left. Raises `NoSuchUser`, `StillBusy`, and the stores' errors."""
    await run_in_threadpool(parts.accounts.lock_out, uid)
    await finish_deletion(parts, uid, WAIT_SECONDS)


async def finish_deletion(parts: Parts, uid: str, patience: float = 0.0) -> None:
    """All that comes after nobody can get in any more. May be done twice. `patience`: seconds for the user's calls."""
    parts.presence.close(uid)
    parts.generation.cancel_user(uid)
    await parts.presence.wait_empty(uid, patience)
    parts.generation.forget_user(uid)
    async with parts.deleting:  # the call and upkeep may both come to one user
        await run_in_threadpool(_remove, parts, uid)


def _remove(parts: Parts, uid: str) -> None:
    if uid not in parts.accounts.leaving():
        return  # another call has done it meanwhile
    parts.store.remove(uid)
    remove_records(parts.redis, uid)
    if account := parts.accounts.of(uid):
        forget_first_user(parts.settings, account.id)
    parts.accounts.forget(uid)
    rewrite_log(parts.redis)


async def finish_rewrite(parts: Parts) -> None:
    """What a deletion that was killed at its end owes: that its user's text goes from Redis's file, too."""
    if await run_in_threadpool(parts.redis.exists, keys.REWRITE):
        async with parts.deleting:  # whoever holds it may be doing it
            await run_in_threadpool(_rewrite, parts)


def _rewrite(parts: Parts) -> None:
    if parts.redis.exists(keys.REWRITE):
        rewrite_log(parts.redis)
