"""The record of each round of learning: asked for, running, and how it ended.

Knows the states of a round, and that a user has at most one that waits or runs. Does not know how a round learns. What
a trainer writes needs its claim on the user and a round that nothing has overtaken.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from feedback import keys
from feedback.claims import Claim
from feedback.connection import Store
from feedback.events import (
    ClaimLost,
    NothingRated,
    Round,
    RoundOvertaken,
    UnknownRound,
    UserGone,
    new_round_id,
)
from feedback.scripts import ANY, script

# KEYS: account, leaving, queued, counts, current round, ids, due · ARGV: uid, now, new id, any round
_REQUEST = script("""
if gone(KEYS[1], KEYS[2], ARGV[1]) then return {'gone'} end
local current = redis.call('GET', KEYS[5])
if current then
  redis.call('HDEL', string.format(ARGV[4], current), 'settles')  -- now, then
  return {'found', redis.call('HGETALL', string.format(ARGV[4], current))}
end
if standing(KEYS[3], KEYS[4]) == 0 then return {'nothing'} end
ask_round(KEYS[6], KEYS[5], ARGV[4], ARGV[3], ARGV[2])
refresh_due(KEYS[7], ARGV[1], KEYS[3], KEYS[5], ARGV[2])
return {'made', redis.call('HGETALL', string.format(ARGV[4], ARGV[3]))}
""")

# KEYS: account, leaving, lock, current round, ids, uses
# ARGV: uid, token, now, new id, any round, any rating, then message id and `since` of each rating
_START = script("""
if gone(KEYS[1], KEYS[2], ARGV[1]) or redis.call('GET', KEYS[3]) ~= ARGV[2] then return {'lost'} end
for n = 7, #ARGV, 2 do
  local found = redis.call('HMGET', string.format(ARGV[6], ARGV[n]), 'since', 'state')
  if found[1] ~= ARGV[n + 1] or (found[2] ~= 'queued' and found[2] ~= 'used') then return {'overtaken'} end
end
if redis.call('EXISTS', KEYS[4]) == 0 then ask_round(KEYS[5], KEYS[4], ARGV[5], ARGV[4], ARGV[3]) end
local round = string.format(ARGV[5], redis.call('GET', KEYS[4]))
redis.call('HSET', round, 'state', 'running', 'started', ARGV[3], 'progress', '0', 'step', '0', 'metrics', '{}')
redis.call('DEL', KEYS[6])
for n = 7, #ARGV, 2 do redis.call('SADD', KEYS[6], ARGV[n] .. ':' .. ARGV[n + 1]) end
return {'done', redis.call('HGETALL', round)}
""")

_MINE = """
local function not_mine(account, leaving, lock, current, round, uid, token, id)
  if gone(account, leaving, uid) or redis.call('GET', lock) ~= token then return 'lost' end
  if redis.call('GET', current) ~= id or redis.call('HGET', round, 'state') ~= 'running' then return 'overtaken' end
end
"""

# KEYS: account, leaving, lock, current round, round, uses
# ARGV: uid, token, id, 1 if the round is over, 1 if it is to be repeated, then fields and values
_UPDATE = script(
    _MINE
    + """
local why = not_mine(KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[1], ARGV[2], ARGV[3])
if why then return {why} end
for n = 6, #ARGV, 2 do redis.call('HSET', KEYS[5], ARGV[n], ARGV[n + 1]) end
if ARGV[4] == '1' then redis.call('DEL', KEYS[4]) end
if ARGV[4] == '1' or ARGV[5] == '1' then redis.call('DEL', KEYS[6]) end
return {'done'}
"""
)

# KEYS: account, leaving, lock, current round, round, uses, queued, counts, ids
# ARGV: uid, token, id, now, new id, any round
_FOLLOW = script(
    _MINE
    + """
local why = not_mine(KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[1], ARGV[2], ARGV[3])
if why then return {why} end
end_round(KEYS[4], KEYS[6], ARGV[6], 'running', ARGV[4])
if standing(KEYS[7], KEYS[8]) > 0 then ask_round(KEYS[9], KEYS[4], ARGV[6], ARGV[5], ARGV[4]) end
return {'done'}
"""
)

# KEYS: current round, uses · ARGV: now, any round
_OVERTAKE = script("return end_round(KEYS[1], KEYS[2], ARGV[2], 'running', ARGV[1]) and 1 or 0")


class Rounds:
    """All rounds. Every method raises `StoreUnavailable`; those that write also `StoreFull`. `clock`: Unix seconds."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    # what people do

    def request(self, uid: str) -> tuple[Round, bool]:
        """The round that waits or runs, else a new one that waits; and whether it is new. On disk when this returns.

        Raises `NothingRated` when no rating stands, `UserGone`.
        """
        names = [
            keys.account(uid), keys.LEAVING, keys.queued(uid), keys.counts(uid), keys.current_round(uid),
            keys.round_ids(uid), keys.DUE,
        ]  # fmt: skip
        reply = self._store.write(_REQUEST, names, [uid, self._clock(), new_round_id(), keys.round(uid, ANY)])
        return _round(_checked(reply)), reply[0] == "made"

    def overtake(self, uid: str) -> bool:
        """Ends the running round as `overtaken`; its ratings stay queued. True if there was one."""
        names = [keys.current_round(uid), keys.round_uses(uid)]
        return bool(self._store.write(_OVERTAKE, names, [self._clock(), keys.round(uid, ANY)]))

    # what the trainer does

    def start(self, claim: Claim, revisions: Iterable[tuple[str, int]]) -> Round:
        """The waiting round, or else a new one, runs and learns from these ratings; a change of one of them ends it.

        Raises `RoundOvertaken` if one of them does not stand any more (read them again), `ClaimLost`.
        """
        uid = claim.uid
        names = [
            keys.account(uid), keys.LEAVING, keys.lock(uid), keys.current_round(uid), keys.round_ids(uid),
            keys.round_uses(uid),
        ]  # fmt: skip
        pairs = [word for message_id, revision in revisions for word in (message_id, revision)]
        args = [
            uid,
            claim.token,
            self._clock(),
            new_round_id(),
            keys.round(uid, ANY),
            keys.rating(uid, ANY),
            *pairs,
        ]
        return _round(_checked(self._store.write(_START, names, args)))

    def check(self, claim: Claim, id: str) -> None:
        """Returns while the round may go on. Raises `RoundOvertaken`, `ClaimLost`."""
        self._update(claim, id, {})

    def progress(
        self, claim: Claim, id: str, progress: float, step: int, steps: int, metrics: Mapping[str, Any]
    ) -> None:
        """How far the round is: `progress` 0 to 1. Raises as `check`."""
        fields = {"progress": progress, "step": step, "steps": steps, "metrics": json.dumps(metrics)}
        self._update(claim, id, fields)

    def end(
        self,
        claim: Claim,
        id: str,
        state: Literal["published", "held", "failed"],
        *,
        version: int | None = None,
        reason: str | None = None,
        metrics: Mapping[str, Any] | None = None,
    ) -> None:
        """How the round ended; on disk when this returns. Raises as `check`: then it had ended before."""
        fields: dict[str, Any] = {"state": state, "ended": self._clock(), "reason": reason or ""}
        if state != "failed":
            fields["progress"] = 1
        if version is not None:
            fields["version"] = version
        if metrics is not None:
            fields["metrics"] = json.dumps(metrics)
        self._update(claim, id, fields, over=True)

    def follow(self, claim: Claim, id: str) -> None:
        """The round ends as `overtaken`, and another one waits in its place if any rating stands, in one step: whatever
        overtook it may not have known that it ran, or have died since. On disk when this returns.

        Raises as `check`: who ended it asks for the next one, too.
        """
        uid = claim.uid
        names = [
            keys.account(uid), keys.LEAVING, keys.lock(uid), keys.current_round(uid), keys.round(uid, id),
            keys.round_uses(uid), keys.queued(uid), keys.counts(uid), keys.round_ids(uid),
        ]  # fmt: skip
        args = [uid, claim.token, id, self._clock(), new_round_id(), keys.round(uid, ANY)]
        _checked(self._store.write(_FOLLOW, names, args))

    def put_back(self, claim: Claim, id: str) -> None:
        """The round waits again: the trainer stops, and another one repeats it. Raises as `check`."""
        self._update(claim, id, {"state": "waiting", "progress": 0, "step": 0}, again=True)

    # what there is

    def current(self, uid: str) -> Round | None:
        """The round that waits or runs."""
        id = self._store.get(keys.current_round(uid))
        return self.get(uid, str(id)) if id else None

    def get(self, uid: str, id: str) -> Round:
        """Raises `UnknownRound`, for another user's too."""
        fields = self._store.hgetall(keys.round(uid, id))
        if not fields:
            raise UnknownRound(f"there is no round {id!r}")
        return _round(fields)

    def list(self, uid: str, limit: int, before: str | None = None) -> list[Round]:
        """At most `limit` rounds older than `before` (a round's id), newest first."""
        start = f"({before}" if before is not None else "+"
        ids = self._store.zrevrangebylex(keys.round_ids(uid), start, "-", start=0, num=limit)
        with self._store.pipeline(transaction=False) as pipe:
            for id in ids:
                pipe.hgetall(keys.round(uid, str(id)))
            return [_round(fields) for fields in pipe.execute() if fields]

    def _update(
        self, claim: Claim, id: str, fields: Mapping[str, Any], over: bool = False, again: bool = False
    ) -> None:
        uid = claim.uid
        names = [
            keys.account(uid), keys.LEAVING, keys.lock(uid), keys.current_round(uid), keys.round(uid, id),
            keys.round_uses(uid),
        ]  # fmt: skip
        pairs = [word for name, value in fields.items() for word in (name, value)]
        args = [uid, claim.token, id, int(over), int(again), *pairs]
        run = self._store.write if over or again else self._store.read  # progress need not survive a crash
        _checked(run(_UPDATE, names, args))


def _checked(reply: Sequence[Any]) -> Any:
    """What a script found, or the error that it reports."""
    errors = {
        "gone": UserGone("this user is no longer here"),
        "nothing": NothingRated("no rating stands, so there is nothing to learn from; rate an answer first"),
        "lost": ClaimLost("another trainer has taken this user over, or the user is gone"),
        "overtaken": RoundOvertaken("overtaken"),
    }
    if reply[0] in errors:
        raise errors[reply[0]]
    return reply[1] if len(reply) > 1 else None


def _round(fields: Mapping[Any, Any] | Sequence[str]) -> Round:
    """From a hash, or from a script's list of its names and values."""
    if not isinstance(fields, Mapping):
        fields = dict(zip(fields[::2], fields[1::2], strict=True))
    return Round(
        id=fields["id"],
        state=fields["state"],
        progress=float(fields["progress"]),
        step=int(fields["step"]),
        steps=int(fields["steps"]),
        metrics=json.loads(fields["metrics"]),
        version=int(fields["version"]) if "version" in fields else None,
        reason=fields.get("reason") or None,
        created=int(float(fields["created"])),
        started=int(float(fields["started"])) if "started" in fields else None,
        ended=int(float(fields["ended"])) if "ended" in fields else None,
    )
