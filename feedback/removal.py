"""The end of a user's records: every key, every mention in the queue, and the text on Redis's disk.

Knows where a user's records are. Does not know the account or the adapters: their owners delete those, and call this
while the user is `keys.LEAVING`, when no script writes for the user any more. A removal cut short is done again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from redis import exceptions

from feedback import keys
from feedback.connection import Store
from feedback.ratings import DAY

log = logging.getLogger(__name__)

BATCH = 500  # keys deleted in one command
REWRITE_SECONDS = 60.0


def remove_records(store: Store, uid: str) -> None:
    """Everything of this user but the account is gone from Redis. Raises `StoreUnavailable`; works on a full server."""
    messages: Any = store.zrange(keys.message_ids(uid), 0, -1)
    rounds: Any = store.zrange(keys.round_ids(uid), 0, -1)
    _delete(store, [name(uid, id) for id in messages for name in (keys.message, keys.rating)])
    _delete(store, [keys.round(uid, id) for id in rounds])
    for member in store.smembers(keys.UNFINISHED):
        if str(member).startswith(f"{uid} "):
            store.srem(keys.UNFINISHED, member)
    _strike(store, keys.EVENTS, uid)
    _strike(store, keys.DEAD, uid)
    store.zrem(keys.DUE, uid)
    # The lists of ids last: what is left of a removal cut short is found by them.
    today = int(time.time() // DAY)
    days = [keys.idempotency(uid, day) for day in range(today - 3, today + 2)]
    named = (
        keys.rated, keys.old_ratings, keys.queued, keys.counts, keys.current_round, keys.round_uses, keys.lock,
        keys.trouble, keys.round_ids, keys.message_ids,
    )  # fmt: skip
    _delete(store, [*days, *(name(uid) for name in named)])
    store.durable()


def rewrite_log(store: Store, seconds: float = REWRITE_SECONDS) -> bool:
    """Has the append-only file rewritten, so that what was deleted before is gone from disk; returns once it is.

    False, with a line in the log, where the server refuses or takes longer than `seconds`. True where it keeps no file.
    Whichever it is, no rewrite is owed any more.
    """
    rewritten = _rewritten(store, seconds)
    store.delete(keys.REWRITE)
    return rewritten


def _rewritten(store: Store, seconds: float) -> bool:
    end = time.monotonic() + seconds
    asked = False
    try:
        while time.monotonic() < end:
            state = store.info("persistence")
            if not int(state["aof_enabled"]):
                return True
            if not int(state["aof_rewrite_in_progress"]) and not int(state["aof_rewrite_scheduled"]):
                if asked:
                    return bool(state["aof_last_bgrewrite_status"] == "ok")
                store.bgrewriteaof()  # one that was under way may have begun before the deletion
                asked = True
            time.sleep(0.02)
        reason = f"it took longer than {seconds:g} s"
    except exceptions.ResponseError as error:
        reason = str(error)
    log.warning("deleted text may stay in Redis's append-only file until it is next rewritten: %s", reason)
    return False


def _strike(store: Store, stream: str, uid: str) -> None:
    """No entry of the stream names the user."""
    entries: Any = store.xrange(stream)
    ids = [id for id, fields in entries if fields.get("uid") == uid]
    for at in range(0, len(ids), BATCH):
        if stream == keys.EVENTS and store.xinfo_groups(stream):
            store.xack(stream, keys.TRAINERS, *ids[at : at + BATCH])
        store.xdel(stream, *ids[at : at + BATCH])


def _delete(store: Store, names: Sequence[str]) -> None:
    for at in range(0, len(names), BATCH):
        store.unlink(*names[at : at + BATCH])
