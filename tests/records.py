"""Users, messages and a clock for tests of what is kept in Redis."""

import json
from dataclasses import dataclass, replace

from feedback import keys
from feedback.events import Message
from feedback.messages import MessageLog

START = 1_800_000_000.0


@dataclass
class Clock:
    """Stands still until it is moved."""

    now: float = START

    def __call__(self):
        return self.now


def add_user(store, uid):
    """As an account looks in Redis."""
    store.set(keys.account(uid), json.dumps({"id": uid}))
    store.zadd(keys.ACCOUNTS, {uid: store.incr(keys.ACCOUNT_COUNTER)})
    return uid


def message(id, **fields):
    """One that is being written."""
    told = [{"role": "user", "content": "Grüße an 🦊?"}]
    blank = Message(id, 1_800_000_000, "personal", told, "", None, 3, 160, 0.7, 0.9, 42)
    return replace(blank, **fields)


def answered(store, uid, count, answer="Hallo."):
    """Ids of so many finished messages, oldest first."""
    log = MessageLog(store)
    ids = [f"msg_{number:04}" for number in range(count)]
    for id in ids:
        log.begin(uid, message(id))
        log.finish(uid, id, answer, "stop")
    return ids
