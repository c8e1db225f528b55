"""The message log: every answer and what it answered, from its first byte to its end.

Knows how messages lie in Redis. Does not know ratings, or how answers are made. A message that has ended never changes;
it goes only with its user.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from feedback import keys
from feedback.connection import Store
from feedback.events import Message, UnknownMessage, UserGone
from feedback.scripts import script

# KEYS: account, leaving, message, ids, unfinished · ARGV: uid, id, record, adapter version, model
_BEGIN = script("""
if gone(KEYS[1], KEYS[2], ARGV[1]) then return 'gone' end
redis.call('HSET', KEYS[3], 'record', ARGV[3], 'adapter_version', ARGV[4], 'model', ARGV[5])
redis.call('ZADD', KEYS[4], 0, ARGV[2])
if redis.call('HEXISTS', KEYS[3], 'finish_reason') == 0 then
  redis.call('SADD', KEYS[5], ARGV[1] .. ' ' .. ARGV[2])
end
return 'done'
""")

# KEYS: account, leaving, message, unfinished · ARGV: uid, id, answer, finish reason, 1 if the answer is empty
_FINISH = script("""
if gone(KEYS[1], KEYS[2], ARGV[1]) then return 'gone' end
if redis.call('EXISTS', KEYS[3]) == 0 then return 'unknown' end
if redis.call('HEXISTS', KEYS[3], 'finish_reason') == 0 then
  redis.call('HSET', KEYS[3], 'answer', ARGV[3], 'finish_reason', ARGV[4], 'empty', ARGV[5])
end
redis.call('SREM', KEYS[4], ARGV[1] .. ' ' .. ARGV[2])
return 'done'
""")


class MessageLog:
    """All messages. Every method raises `StoreUnavailable`; those that write also `StoreFull`, `UserGone`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def begin(self, uid: str, message: Message) -> None:
        """An answer is being written; on disk when this returns."""
        record = message.to_json()
        del record["answer"], record["finish_reason"]
        names = [
            keys.account(uid),
            keys.LEAVING,
            keys.message(uid, message.id),
            keys.message_ids(uid),
            keys.UNFINISHED,
        ]
        said = json.dumps(record, ensure_ascii=False)
        args = [uid, message.id, said, message.adapter_version, message.model]
        _raise(self._store.write(_BEGIN, names, args))

    def finish(self, uid: str, message_id: str, answer: str, finish_reason: str) -> None:
        """The answer has ended; on disk when this returns. The first end stands. Raises `UnknownMessage`."""
        names = [keys.account(uid), keys.LEAVING, keys.message(uid, message_id), keys.UNFINISHED]
        args = [uid, message_id, answer, finish_reason, int(not answer.strip())]
        _raise(self._store.write(_FINISH, names, args))

    def cancel_unfinished(self) -> int:
        """Ends, as `cancelled`, what a killed process left unfinished; returns how many. For the API's start."""
        left = [str(member).split(" ") for member in self._store.smembers(keys.UNFINISHED)]
        for uid, message_id in left:
            try:
                self.finish(uid, message_id, "", "cancelled")
            except (UserGone, UnknownMessage):
                self._store.srem(keys.UNFINISHED, f"{uid} {message_id}")
        return len(left)

    def get(self, uid: str, message_id: str) -> Message:
        """Raises `UnknownMessage`, for another user's too."""
        fields = self._store.hgetall(keys.message(uid, message_id))
        if "record" not in fields:
            raise _unknown(message_id)
        return _message(fields)

    def list(self, uid: str, limit: int, before: str | None = None) -> list[Message]:
        """At most `limit` messages older than `before` (a message's id), newest first."""
        start = f"({before}" if before is not None else "+"
        ids = self._store.zrevrangebylex(keys.message_ids(uid), start, "-", start=0, num=limit)
        with self._store.pipeline(transaction=False) as pipe:
            for message_id in ids:
                pipe.hgetall(keys.message(uid, str(message_id)))
            return [_message(fields) for fields in pipe.execute() if "record" in fields]

    def count(self, uid: str) -> int:
        """How many messages the user has."""
        return int(self._store.zcard(keys.message_ids(uid)))


def _message(fields: Mapping[Any, Any]) -> Message:
    record = json.loads(fields["record"])
    return Message(**record, answer=fields.get("answer", ""), finish_reason=fields.get("finish_reason"))


def _raise(outcome: str) -> None:
    if outcome == "gone":
        raise UserGone("this user is no longer here")
    if outcome == "unknown":
        raise UnknownMessage("there is no such message")


def _unknown(message_id: str) -> UnknownMessage:
    return UnknownMessage(f"there is no message {message_id!r}")
