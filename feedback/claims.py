"""Which trainer works for which user: one at a time, the longest-waiting due user first.

Knows the due users, the lock of each, and rounds that failed. Does not know what a round does. The lock is renewed
while a round runs, and runs out with a trainer that died: then the user is still due, and another one takes over.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from feedback import keys
from feedback.connection import Store
from feedback.scripts import ANY, any_user, script

PAGE = 200  # users looked at in one step, so that Redis is never busy for long
FIRST_PAUSE, LONGEST_PAUSE = 10.0, 600.0  # seconds after a user's first failed round, doubled each time

# KEYS: due, leaving
# ARGV: now, first place, last place, ratings that are enough, few, quiet seconds, token, lease in ms,
#   any account, queued, current round, round, its uses, lock, trouble (of %s), settling seconds
_TAKE = script("""
local now = tonumber(ARGV[1])
local uids = redis.call('ZRANGE', KEYS[1], ARGV[2], ARGV[3])
for _, uid in ipairs(uids) do
  local function of(any) return string.format(any, uid) end
  if gone(of(ARGV[9]), KEYS[2], uid) then
    redis.call('ZREM', KEYS[1], uid)
  elseif (redis.call('GET', of(ARGV[14])) or ARGV[7]) == ARGV[7] then
    local current = redis.call('GET', of(ARGV[11]))
    local new = redis.call('ZCARD', of(ARGV[10]))
    local last = redis.call('ZREVRANGE', of(ARGV[10]), 0, 0, 'WITHSCORES')[2]
    local function settled(since)
      return new == 0 or tonumber(last) + tonumber(ARGV[16]) <= now or tonumber(since) + tonumber(ARGV[6]) <= now
    end
    local round = current and string.gsub(of(ARGV[12]), '@', current)
    local asked = current
      and (redis.call('HGET', round, 'settles') ~= '1' or settled(redis.call('HGET', round, 'created')))
    local place = tonumber(ARGV[4]) - 1
    local enough = redis.call('ZRANGE', of(ARGV[10]), place, place, 'WITHSCORES')[2]
    local due = asked or (enough and settled(enough))
      or (new >= tonumber(ARGV[5]) and tonumber(last) + tonumber(ARGV[6]) <= now)
    local not_before = redis.call('HGET', of(ARGV[15]), 'not_before')
    if due and (not not_before or tonumber(not_before) <= now) then
      redis.call('SET', of(ARGV[14]), ARGV[7], 'PX', ARGV[8])
      if round and redis.call('HGET', round, 'state') == 'running' then
        redis.call('HSET', round, 'state', 'waiting')
        redis.call('DEL', of(ARGV[13]))
        redis.call('HINCRBY', of(ARGV[15]), 'deaths', 1)
      end
      local trouble = redis.call('HMGET', of(ARGV[15]), 'failures', 'reason', 'deaths')
      return {uid, trouble[1] or '0', trouble[2] or '', trouble[3] or '0'}
    end
  end
end
return {#uids}
""")

# KEYS: lock · ARGV: token, lease in ms
_RENEW = script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
""")

# KEYS: account, leaving, lock, due, queued, current round · ARGV: uid, token, now
_RELEASE = script("""
if redis.call('GET', KEYS[3]) ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[3])
if not gone(KEYS[1], KEYS[2], ARGV[1]) then refresh_due(KEYS[4], ARGV[1], KEYS[5], KEYS[6], ARGV[3]) end
return 1
""")

# KEYS: lock, trouble · ARGV: token, reason, now, first pause, longest pause
_FAILED = script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local known = redis.call('HMGET', KEYS[2], 'token', 'failures')
if known[1] == ARGV[1] then return tonumber(known[2]) end  -- a repeated call: a claim fails once
local failures = redis.call('HINCRBY', KEYS[2], 'failures', 1)
local pause = math.min(tonumber(ARGV[5]), tonumber(ARGV[4]) * 2 ^ (failures - 1))
redis.call('HSET', KEYS[2], 'token', ARGV[1], 'reason', ARGV[2], 'not_before', tonumber(ARGV[3]) + pause)
return failures
""")


@dataclass(frozen=True)
class Rules:
    """When a user is due without having asked: `enough` new ratings, or `few` of them `quiet` seconds ago.

    `settle`: seconds without a new rating that `enough` of them wait for, and the round after a change of one that was
    learnt from, so that ratings given or changed in one go are learnt from in one round. They wait at most `quiet`
    seconds: from the last of those that were enough, or from the first change.
    """

    enough: int = 8
    few: int = 3
    quiet: float = 60.0
    settle: float = 0.0


@dataclass(frozen=True)
class Claim:
    """One trainer's lock on one user. `failures`: rounds in a row that came to nothing, the last one for `reason`.

    `deaths`: rounds since the last good one whose trainer went away in the middle. Most often that says nothing about
    the round: a machine was switched off, or Redis was away for longer than the lease.
    """

    uid: str
    token: str
    failures: int = 0
    reason: str = ""
    deaths: int = 0


class Claims:
    """Every method raises `StoreUnavailable`; those that write also `StoreFull`. `clock`: Unix seconds."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    def take(self, worker: str, rules: Rules, lease: float) -> Claim | None:
        """Locks, for `lease` seconds, the longest-waiting due user whom nobody works for; None where there is none.

        A round that was running without a lock was a dead trainer's: it waits again, and the death is counted.
        """
        token = f"{worker} {secrets.token_hex(8)}"
        names = any_user(keys.account, keys.queued, keys.current_round)
        names += [keys.round(ANY, "@"), keys.round_uses(ANY), keys.lock(ANY), keys.trouble(ANY)]
        place = 0
        while True:
            limits = [place, place + PAGE - 1, rules.enough, rules.few, rules.quiet]
            args = [self._clock(), *limits, token, int(lease * 1000), *names, rules.settle]
            reply = self._store.read(_TAKE, [keys.DUE, keys.LEAVING], args)
            if len(reply) > 1:
                return Claim(reply[0], token, int(reply[1]), reply[2], int(reply[3]))
            if int(reply[0]) < PAGE:
                return None
            place += PAGE

    def renew(self, claim: Claim, lease: float) -> bool:
        """Holds the lock for another `lease` seconds; False if somebody else has it, or the user is gone."""
        return bool(self._store.read(_RENEW, [keys.lock(claim.uid)], [claim.token, int(lease * 1000)]))

    def release(self, claim: Claim) -> bool:
        """Gives the lock back; the user stays due for what is still new. False if it was lost before."""
        uid = claim.uid
        names = [
            keys.account(uid),
            keys.LEAVING,
            keys.lock(uid),
            keys.DUE,
            keys.queued(uid),
            keys.current_round(uid),
        ]
        return bool(self._store.write(_RELEASE, names, [uid, claim.token, self._clock()]))

    def failed(self, claim: Claim, reason: str) -> int:
        """Notes a failed round: nobody tries again before a pause, which doubles. Returns how many failed in a row."""
        args = [claim.token, reason, self._clock(), FIRST_PAUSE, LONGEST_PAUSE]
        return int(self._store.write(_FAILED, [keys.lock(claim.uid), keys.trouble(claim.uid)], args))

    def succeeded(self, claim: Claim) -> None:
        """Earlier failures are forgotten."""
        self._store.delete(keys.trouble(claim.uid))
