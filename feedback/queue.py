"""The stream that says who has something new, and its way to "this user is due".

Knows the stream, its consumer group and the dead letters. Does not know what was said in a rating, or who works for
whom. An entry may come twice, and out of order: it says only that its user has something new, and the user is due for
what the records say. It is acknowledged in the same step that marks the user due.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redis import exceptions

from feedback import keys
from feedback.connection import Store
from feedback.scripts import any_user, script

PAGE = 200  # users looked at in one step, so that Redis is never busy for long
MAX_DELIVERIES = 10  # an entry that nobody could mark after so many tries is set aside
DEAD_KEPT = 10_000

# KEYS: due, events, leaving · ARGV: group, now, any account, any queued, any current round, then entry and uid of each
_MARK = script("""
for n = 6, #ARGV, 2 do
  local uid = ARGV[n + 1]
  if not gone(string.format(ARGV[3], uid), KEYS[3], uid) then
    refresh_due(KEYS[1], uid, string.format(ARGV[4], uid), string.format(ARGV[5], uid), ARGV[2])
  end
  redis.call('XACK', KEYS[2], ARGV[1], ARGV[n])
  redis.call('XDEL', KEYS[2], ARGV[n])
end
""")

# KEYS: accounts, leaving, due · ARGV: now, first place, last place, any account, any queued, any current round
_RECOVER = script("""
local uids = redis.call('ZRANGE', KEYS[1], ARGV[2], ARGV[3])
for _, uid in ipairs(uids) do
  if not gone(string.format(ARGV[4], uid), KEYS[2], uid) then
    refresh_due(KEYS[3], uid, string.format(ARGV[5], uid), string.format(ARGV[6], uid), ARGV[1])
  end
end
return #uids
""")

# KEYS: account, leaving, dead letters · ARGV: uid, reason, now, most letters
_BURY = script("""
if gone(KEYS[1], KEYS[2], ARGV[1]) then return 0 end
redis.call('XADD', KEYS[3], 'MAXLEN', ARGV[4], '*', 'uid', ARGV[1], 'reason', ARGV[2], 'at', ARGV[3])
return 1
""")

# KEYS: events · ARGV: group, consumer
_LEAVE = script("""
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2])
if pending.err or #pending > 0 then return 0 end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 1
""")


@dataclass(frozen=True)
class Entry:
    """One line of the stream, delivered to one trainer."""

    id: str
    uid: str


@dataclass(frozen=True)
class Size:
    """Entries in the stream, of which `pending` are delivered and not yet acknowledged; users due; dead letters."""

    events: int
    pending: int
    due: int
    dead: int


class Queue:
    """The stream. Every method raises `StoreUnavailable`; those that write also `StoreFull`. `clock`: Unix seconds."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    # entries

    def open(self) -> None:
        """Makes the stream and its group where there is none, from the first entry on. May be done twice."""
        try:
            self._store.xgroup_create(keys.EVENTS, keys.TRAINERS, id="0", mkstream=True)
        except exceptions.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def claim(self, worker: str, count: int = 100, idle: float = 60.0, wait: float = 0.0) -> list[Entry]:
        """Entries for this trainer: first those that another one let lie for `idle` seconds, else new ones; waits at
        most `wait` seconds (under 5) for them. What cannot be handled goes to the dead letters."""
        try:
            raw = self._left_behind(worker, count, idle) or self._new(worker, count, wait)
        except exceptions.ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            self.open()
            return []
        for id, fields in raw:
            if "uid" not in fields:
                self._set_aside(id, fields, "it names no user")
        return [Entry(id, fields["uid"]) for id, fields in raw if "uid" in fields]

    def mark_due(self, entries: list[Entry]) -> None:
        """The entries' users are due, as far as their records say so, and the entries acknowledged, in one step that
        is on disk when this returns."""
        if entries:
            pairs = [word for entry in entries for word in (entry.id, entry.uid)]
            args = [
                keys.TRAINERS,
                self._clock(),
                *any_user(keys.account, keys.queued, keys.current_round),
                *pairs,
            ]
            self._store.write(_MARK, [keys.DUE, keys.EVENTS, keys.LEAVING], args)

    def recover(self) -> None:
        """Marks due whoever is, from the records alone, whatever became of the stream. For a trainer's start."""
        place = 0
        while True:
            args = [
                self._clock(),
                place,
                place + PAGE - 1,
                *any_user(keys.account, keys.queued, keys.current_round),
            ]
            found = int(self._store.read(_RECOVER, [keys.ACCOUNTS, keys.LEAVING, keys.DUE], args))
            if found < PAGE:
                return
            place += PAGE

    def leave(self, worker: str) -> None:
        """This trainer ends, and the group forgets it; not while it still has entries, which another one takes over."""
        self._store.read(_LEAVE, [keys.EVENTS], [keys.TRAINERS, worker])

    # dead letters

    def bury(self, uid: str, reason: str) -> None:
        """A dead letter: this user's ratings were given up. None for a user who is gone."""
        names = [keys.account(uid), keys.LEAVING, keys.DEAD]
        self._store.write(_BURY, names, [uid, reason, int(self._clock()), DEAD_KEPT])

    def dead(self, limit: int = 100) -> list[dict[str, str]]:
        """Dead letters, newest first: what was in them, `reason`, and `at` (Unix seconds)."""
        found: Any = self._store.xrevrange(keys.DEAD, count=limit)
        return [fields for _, fields in found]

    def size(self) -> Size:
        """How much there is to do."""
        try:
            pending = int(self._store.xpending(keys.EVENTS, keys.TRAINERS)["pending"])
        except exceptions.ResponseError:
            pending = 0  # no trainer has come yet
        with self._store.pipeline(transaction=False) as pipe:
            pipe.xlen(keys.EVENTS)
            pipe.zcard(keys.DUE)
            pipe.xlen(keys.DEAD)
            events, due, dead = pipe.execute()
        return Size(events, pending, due, dead)

    def _left_behind(self, worker: str, count: int, idle: float) -> list[tuple[str, dict[str, str]]]:
        """Entries of dead trainers; those delivered too often are set aside."""
        reply: Any = self._store.xautoclaim(
            keys.EVENTS, keys.TRAINERS, worker, min_idle_time=int(idle * 1000), count=count
        )
        found = [(id, fields) for id, fields in reply[1] if id]
        if not found:
            return []
        tries: Any = self._store.xpending_range(
            keys.EVENTS, keys.TRAINERS, found[0][0], found[-1][0], count, worker
        )
        worn = {each["message_id"] for each in tries if each["times_delivered"] > MAX_DELIVERIES}
        for id, fields in found:
            if id in worn:
                self._set_aside(id, fields, f"delivered {MAX_DELIVERIES} times, and no trainer could mark it")
        return [(id, fields) for id, fields in found if id not in worn]

    def _new(self, worker: str, count: int, wait: float) -> list[tuple[str, dict[str, str]]]:
        block = int(wait * 1000) if wait else None
        streams: Any = {keys.EVENTS: ">"}
        reply: Any = self._store.xreadgroup(keys.TRAINERS, worker, streams, count=count, block=block)
        return reply[0][1] if reply else []

    def _set_aside(self, id: str, fields: dict[str, str], reason: str) -> None:
        self._dead(fields, reason)
        self._store.xack(keys.EVENTS, keys.TRAINERS, id)
        self._store.xdel(keys.EVENTS, id)

    def _dead(self, fields: dict[str, str], reason: str) -> None:
        letter: Any = {**fields, "reason": reason, "at": int(self._clock())}
        self._store.xadd(keys.DEAD, letter, maxlen=DEAD_KEPT)
