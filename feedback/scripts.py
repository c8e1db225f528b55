"""What several Lua scripts share: is the user still here, what ends a round, when is a user due.

Knows Lua and the fields of the records. Names of keys come from keys.py; what ends in `%s` is a name whose last part
the script fills in. Every change of a rating or a round is one script, so that no crash and no other client comes in
between; times are given to them, so that tests have their own clock.
"""

from __future__ import annotations

from collections.abc import Callable

from feedback.calls import Script

# To be used in a name where a script fills in the id.
ANY = "%s"

_SHARED = """
local function gone(account, leaving, uid)
  return redis.call('EXISTS', account) == 0 or redis.call('SISMEMBER', leaving, uid) == 1
end

-- A user is due from the oldest rating that no round has learnt from, or from the wish for a round.
local function refresh_due(due, uid, queued, current, now)
  local since = redis.call('ZRANGE', queued, 0, 0, 'WITHSCORES')[2]
  if redis.call('EXISTS', current) == 1 then
    local before = redis.call('ZSCORE', due, uid) or now
    if not since or tonumber(before) < tonumber(since) then since = before end
  end
  if since then redis.call('ZADD', due, since, uid) else redis.call('ZREM', due, uid) end
end

local function ask_round(ids, current, round_any, id, now)
  redis.call('HSET', string.format(round_any, id), 'id', id, 'state', 'waiting', 'progress', '0', 'step', '0',
    'steps', '0', 'metrics', '{}', 'created', now)
  redis.call('ZADD', ids, 0, id)
  redis.call('SET', current, id)
end

local function end_round(current, uses, round_any, state, now)
  local id = redis.call('GET', current)
  local round = id and string.format(round_any, id)
  if not id or (state and redis.call('HGET', round, 'state') ~= state) then return false end
  redis.call('HSET', round, 'state', 'failed', 'reason', 'overtaken', 'ended', now)
  redis.call('DEL', current, uses)
  return true
end

local function standing(queued, counts)
  return redis.call('ZCARD', queued) + tonumber(redis.call('HGET', counts, 'used') or '0')
end
"""


def script(body: str) -> Script:
    """A script that may call the functions above."""
    return Script(_SHARED + body)


def any_user(*names: Callable[[str], str]) -> list[str]:
    """These keys of whichever user a script comes to."""
    return [name(ANY) for name in names]
