"""What happens to a rating in one step: put, withdrawn, all forgotten, used or refused, held out; a count by thumbs.

Knows Lua and the fields of a rating. Does not know Python's records. Each script is one round trip and may run twice.
"""

from __future__ import annotations

from feedback.scripts import script

HELD_OUT_FIRST = 4  # the how-manyeth of each kind is the first that is held out, as PUT counts them

# KEYS: account, leaving, message, rating, rated, old ratings, queued, counts, idempotency of today, of yesterday,
#   events, current round, its uses, round ids
# ARGV: uid, message id, body, up or down, now, idempotency key ('' for none), hash of the body, any round, EMPTY,
#   id for a new round, 1 if the correction says what was wanted
PUT = script("""
local function teaches_the_same(one, other)
  one, other = cjson.decode(one), cjson.decode(other)
  return one.rating == other.rating and one.correction == other.correction
end

local uid, id, body, rating, now, key, hash = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
if gone(KEYS[1], KEYS[2], uid) then return {'gone'} end
local message = redis.call('HMGET', KEYS[3], 'adapter_version', 'finish_reason', 'empty')
if not message[1] then return {'unknown'} end
if not message[2] then return {'running'} end
if key ~= '' then
  local seen = redis.call('HGET', KEYS[9], key) or redis.call('HGET', KEYS[10], key)
  local at, of = string.match(seen or '', '^(%S+) (%S+)$')
  if at and tonumber(now) - tonumber(at) < 86400 then
    if of ~= hash then return {'conflict'} end
    return {'done', redis.call('HGETALL', KEYS[4])}
  end
  redis.call('HSET', KEYS[9], key, now .. ' ' .. hash)
  redis.call('EXPIRE', KEYS[9], 172800)
end
local old = redis.call('HMGET', KEYS[4], 'body', 'state', 'revision', 'rating', 'taught', 'since')
local refused = message[3] == '1' and ARGV[11] == ''
local again = old[2] == 'refused' and not refused  -- what was given up may go well now
if old[1] == body and old[2] ~= 'withdrawn' and not again then return {'done', redis.call('HGETALL', KEYS[4])} end
local revision = tonumber(old[3] or '0') + 1
local told = old[1] and old[2] ~= 'withdrawn'
if told then redis.call('HSET', KEYS[4], 'state', 'superseded') end
if old[1] then redis.call('RPUSH', KEYS[6], cjson.encode(redis.call('HGETALL', KEYS[4]))) end
-- Nothing is learnt from a comment or tags: where they alone have changed, what was learnt from the rating stands.
if told and not again and teaches_the_same(old[1], body) then
  redis.call('HSET', KEYS[4], 'state', old[2], 'body', body, 'revision', revision)
  return {'done', redis.call('HGETALL', KEYS[4])}
end
local relearn = false
if old[1] then
  if told then redis.call('HINCRBY', KEYS[8], old[4], -1) end
  if old[2] == 'used' then redis.call('HINCRBY', KEYS[8], 'used', -1) end
  relearn = old[2] == 'used' or (told and old[5])  -- a version was made with what stood here
  if redis.call('SISMEMBER', KEYS[13], id .. ':' .. old[6]) == 1
    and end_round(KEYS[12], KEYS[13], ARGV[8], 'running', now) then
    redis.call('HSET', KEYS[4], 'ended_round', now)
    relearn = true
  end
  if relearn and redis.call('EXISTS', KEYS[12]) == 0 then
    ask_round(KEYS[14], KEYS[12], ARGV[8], ARGV[10], now)
    redis.call('HSET', string.format(ARGV[8], ARGV[10]), 'settles', '1')  -- more changes may follow
  end
else
  local nth = redis.call('HINCRBY', KEYS[8], 'first_' .. rating, 1)
  redis.call('HSET', KEYS[4], 'message_id', id, 'held_out', nth % 5 == 4 and '1' or '0', 'created', now)
  redis.call('ZADD', KEYS[5], now, id)
end
redis.call('HSET', KEYS[4], 'body', body, 'rating', rating, 'revision', revision, 'since', revision, 'used_in', '',
  'updated', now, 'adapter_version', message[1], 'state', refused and 'refused' or 'queued',
  'reason', refused and ARGV[9] or '')
redis.call('HINCRBY', KEYS[8], rating, 1)
if refused then
  redis.call('ZREM', KEYS[7], id)
else
  redis.call('ZADD', KEYS[7], now, id)
end
if relearn or not refused then
  redis.call('XADD', KEYS[11], '*', 'uid', uid, 'message_id', id, 'revision', revision)
end
return {'done', redis.call('HGETALL', KEYS[4])}
""")

_WITHDRAW_ONE = """
-- Returns the state before, since which revision it said so, and whether a version was made with any revision of it.
local function withdraw(rating, queued, counts, id, now)
  local old = redis.call('HMGET', rating, 'state', 'revision', 'rating', 'taught', 'since')
  if not old[1] or old[1] == 'withdrawn' then return old[1] end
  redis.call('HSET', rating, 'state', 'withdrawn', 'reason', '', 'updated', now, 'withdrawn_revision', old[2])
  redis.call('HINCRBY', counts, old[3], -1)
  if old[1] == 'used' then redis.call('HINCRBY', counts, 'used', -1) end
  redis.call('ZREM', queued, id)
  return old[1], old[5], old[1] == 'used' or old[4]
end
"""

# KEYS: account, leaving, rating, queued, counts, current round, its uses, due, round ids
# ARGV: uid, message id, now, any round, id for a new round
WITHDRAW = script(
    _WITHDRAW_ONE
    + """
if gone(KEYS[1], KEYS[2], ARGV[1]) then return {'gone'} end
local before, since, taught = withdraw(KEYS[3], KEYS[4], KEYS[5], ARGV[2], ARGV[3])
if not before then return {'unrated'} end
if since then
  local ended = redis.call('SISMEMBER', KEYS[7], ARGV[2] .. ':' .. since) == 1
    and end_round(KEYS[6], KEYS[7], ARGV[4], 'running', ARGV[3])
  if standing(KEYS[4], KEYS[5]) == 0 then
    end_round(KEYS[6], KEYS[7], ARGV[4], 'waiting', ARGV[3])
  elseif (taught or ended) and redis.call('EXISTS', KEYS[6]) == 0 then
    ask_round(KEYS[9], KEYS[6], ARGV[4], ARGV[5], ARGV[3])
  end
  refresh_due(KEYS[8], ARGV[1], KEYS[4], KEYS[6], ARGV[3])
end
return {'done', redis.call('HGETALL', KEYS[3])}
"""
)

# KEYS: account, leaving, rated, queued, counts, current round, its uses, due · ARGV: uid, now, any rating, any round
FORGET = script(
    _WITHDRAW_ONE
    + """
if gone(KEYS[1], KEYS[2], ARGV[1]) then return {'gone'} end
local many = 0
for _, id in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
  local _, since = withdraw(string.format(ARGV[3], id), KEYS[4], KEYS[5], id, ARGV[2])
  if since then many = many + 1 end
end
end_round(KEYS[6], KEYS[7], ARGV[4], nil, ARGV[2])
redis.call('ZREM', KEYS[8], ARGV[1])
return {'done', many}
"""
)

# KEYS: account, leaving, queued, counts, current round, due
# ARGV: uid, now, any rating, 'used' or 'refused', version or reason, then message id and `since` of each
SETTLE = script("""
if gone(KEYS[1], KEYS[2], ARGV[1]) then return {'gone'} end
for n = 6, #ARGV, 2 do
  local rating = string.format(ARGV[3], ARGV[n])
  local found = redis.call('HMGET', rating, 'since', 'state', 'used_in')
  local stands = found[1] == ARGV[n + 1] and (found[2] == 'queued' or found[2] == 'used')
  if stands and ARGV[4] == 'used' then
    if not string.find(',' .. found[3] .. ',', ',' .. ARGV[5] .. ',', 1, true) then
      redis.call('HSET', rating, 'used_in', found[3] == '' and ARGV[5] or found[3] .. ',' .. ARGV[5])
    end
    redis.call('HSET', rating, 'state', 'used', 'taught', '1')
    if found[2] == 'queued' then redis.call('HINCRBY', KEYS[4], 'used', 1) end
    redis.call('ZREM', KEYS[3], ARGV[n])
  elseif stands and found[2] == 'queued' then
    redis.call('HSET', rating, 'state', 'refused', 'reason', ARGV[5])
    redis.call('ZREM', KEYS[3], ARGV[n])
  end
end
refresh_due(KEYS[6], ARGV[1], KEYS[3], KEYS[5], ARGV[2])
return {'done'}
""")

# KEYS: account, leaving, rating · ARGV: uid
HOLD_OUT = script("""
if gone(KEYS[1], KEYS[2], ARGV[1]) then return {'gone'} end
local state = redis.call('HGET', KEYS[3], 'state')
if state == 'queued' or state == 'used' then redis.call('HSET', KEYS[3], 'held_out', '1') end
return {'done'}
""")

# KEYS: rated · ARGV: first place, last place, any rating, any message
# Thumbs that stand, by the version that answered and by whether that was asked for.
THUMBS = script("""
-- The base model stands in for a version only where `personal` was asked for; older messages say that in the record.
local function personal(version, message)
  if version ~= '0' then return true end
  local model = redis.call('HGET', message, 'model') or cjson.decode(redis.call('HGET', message, 'record')).model
  return model == 'personal'
end
local ids = redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[2])
local thumbs = {}
for _, id in ipairs(ids) do
  local found = redis.call('HMGET', string.format(ARGV[3], id), 'adapter_version', 'state', 'rating')
  if found[1] and found[2] ~= 'withdrawn' then
    local asked = personal(found[1], string.format(ARGV[4], id)) and 'personal' or 'base'
    local group = found[1] .. ' ' .. asked .. ' ' .. found[3]
    thumbs[group] = (thumbs[group] or 0) + 1
  end
end
local found = {#ids}
for group, count in pairs(thumbs) do
  table.insert(found, group)
  table.insert(found, count)
end
return found
""")
