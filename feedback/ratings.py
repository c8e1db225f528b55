"""Ratings: what a person thinks of an answer now, what they thought before, and which versions learnt it.

Knows the states and revisions of a rating and how they lie in Redis. Does not know rounds beyond this: a running one
that uses a rating ends when the rating changes. The record is the truth; the stream entry that comes with it only says
that the user has something new.

A message's first rating decides whether it is held out: the fourth, ninth, fourteenth... of each kind are, so that of
any first eight one is, and few are kept from what is climbed. No later change moves a rating into training; out of it
only a round takes one, where none that is held out stands any more.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from feedback import keys
from feedback.calls import Call
from feedback.connection import Store
from feedback.events import (
    Feedback,
    KeyConflict,
    NotEnded,
    NotRated,
    Rating,
    UnknownMessage,
    UserGone,
    new_round_id,
)
from feedback.rating_scripts import FORGET, HOLD_OUT, PUT, SETTLE, THUMBS, WITHDRAW
from feedback.scripts import ANY
from feedback.watch import Thumbs

DAY = 24 * 3600
EMPTY = "nothing can be learnt from an empty answer, unless a correction says what was wanted"
PAGE = 1000  # ratings looked at in one step, so that Redis is never busy for long


@dataclass(frozen=True)
class Counts:
    """How many ratings: `up` and `down` are not withdrawn, `queued` wait for a round, `used` shaped a version."""

    up: int
    down: int
    queued: int
    used: int

    @property
    def standing(self) -> int:
        """How many teach something."""
        return self.queued + self.used


@dataclass(frozen=True)
class Put:
    """What came of putting a rating. `ended`: a round that was learning from what was said before has been ended."""

    feedback: Feedback
    ended: bool


class Ratings:
    """All ratings. Every method raises `StoreUnavailable`; those that write also `StoreFull`, `UserGone`.

    Pairs of message id and revision are any tuples, such as the store's own `Revision`. `clock`: Unix seconds.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    # what people do

    def put(
        self,
        uid: str,
        message_id: str,
        rating: Rating,
        tags: Sequence[str] = (),
        comment: str | None = None,
        correction: str | None = None,
        idempotency_key: str | None = None,
    ) -> Feedback:
        """Rates a message; on disk when this returns. The same again changes nothing, anything else is a new revision.
        So is the same again where learning from it was given up. Nothing is learnt from tags and comment: where they
        alone differ, state and use stay. Else, if a version may have learnt from what is replaced, or a round was
        learning from it, a round is asked for.

        With an idempotency key that was used within 24 h nothing is done: what stands now is returned, or `KeyConflict`
        raised if the rest differs. Raises `UnknownMessage`, `NotEnded`.
        """
        call = self.putting(uid, message_id, rating, tags, comment, correction, idempotency_key)
        return self._store.do(call).feedback

    def putting(
        self,
        uid: str,
        message_id: str,
        rating: Rating,
        tags: Sequence[str],
        comment: str | None,
        correction: str | None,
        idempotency_key: str | None,
    ) -> Call[Put]:
        """`put` as a call, to be done together with others."""
        said = {"rating": rating, "tags": list(tags), "comment": comment, "correction": correction}
        body = json.dumps(said, ensure_ascii=False)
        now, today = self._clock(), int(self._clock() // DAY)
        names = [
            keys.account(uid), keys.LEAVING, keys.message(uid, message_id), keys.rating(uid, message_id),
            keys.rated(uid), keys.old_ratings(uid), keys.queued(uid), keys.counts(uid),
            keys.idempotency(uid, today), keys.idempotency(uid, today - 1), keys.EVENTS,
            keys.current_round(uid), keys.round_uses(uid), keys.round_ids(uid),
        ]  # fmt: skip
        key = _digest(idempotency_key) if idempotency_key is not None else ""
        args = [
            uid, message_id, body, rating, now, key, _digest(message_id + body), keys.round(uid, ANY), EMPTY,
            new_round_id(), "1" if (correction or "").strip() else "",
        ]  # fmt: skip
        return Call(PUT, names, args, lambda reply: _put(_reply(reply), now))

    def withdraw(self, uid: str, message_id: str) -> Feedback:
        """The rating teaches nothing any more; on disk when this returns. Raises `NotRated`.

        If a version may have learnt from it, a round over the remaining ratings is asked for.
        """
        names = [
            keys.account(uid), keys.LEAVING, keys.rating(uid, message_id), keys.queued(uid), keys.counts(uid),
            keys.current_round(uid), keys.round_uses(uid), keys.DUE, keys.round_ids(uid),
        ]  # fmt: skip
        args = [uid, message_id, self._clock(), keys.round(uid, ANY), new_round_id()]
        return _feedback(_reply(self._store.write(WITHDRAW, names, args)))

    def forget(self, uid: str) -> int:
        """Withdraws every rating and ends the round that waits or runs; returns how many there were."""
        names = [
            keys.account(uid), keys.LEAVING, keys.rated(uid), keys.queued(uid), keys.counts(uid),
            keys.current_round(uid), keys.round_uses(uid), keys.DUE,
        ]  # fmt: skip
        args = [uid, self._clock(), keys.rating(uid, ANY), keys.round(uid, ANY)]
        return int(_reply(self._store.write(FORGET, names, args)))

    # what rounds do

    def mark_used(self, uid: str, revisions: Iterable[tuple[str, int]], version: int) -> None:
        """The version was trained on these; those that stand no longer are left as they are. May be done twice."""
        self._settle(uid, revisions, "used", version)

    def refuse(self, uid: str, revisions: Iterable[tuple[str, int]], reason: str) -> None:
        """Nothing can be learnt from these; those that are not queued any more are left as they are."""
        self._settle(uid, revisions, "refused", reason)

    def hold_out(self, uid: str, message_id: str) -> None:
        """From now on this one, if it stands, is kept from what PPO climbs, to judge by."""
        names = [keys.account(uid), keys.LEAVING, keys.rating(uid, message_id)]
        _reply(self._store.write(HOLD_OUT, names, [uid]))

    def _settle(self, uid: str, revisions: Iterable[tuple[str, int]], state: str, detail: int | str) -> None:
        names = [
            keys.account(uid), keys.LEAVING, keys.queued(uid), keys.counts(uid), keys.current_round(uid), keys.DUE,
        ]  # fmt: skip
        pairs = [word for message_id, revision in revisions for word in (message_id, revision)]
        args = [uid, self._clock(), keys.rating(uid, ANY), state, detail, *pairs]
        _reply(self._store.write(SETTLE, names, args))

    # what there is

    def get(self, uid: str, message_id: str) -> Feedback | None:
        """The newest revision, withdrawn or not; None for a message that was never rated."""
        return self.of(uid, [message_id]).get(message_id)

    def of(self, uid: str, message_ids: Iterable[str]) -> dict[str, Feedback]:
        """The newest revision of each of these messages that was ever rated."""
        with self._store.pipeline(transaction=False) as pipe:
            for message_id in message_ids:
                pipe.hgetall(keys.rating(uid, message_id))
            found = [_feedback(fields) for fields in pipe.execute() if fields]
        return {feedback.message_id: feedback for feedback in found}

    def standing(self, uid: str) -> list[Feedback]:
        """All that rounds learn from, in the order in which it was said: what was changed counts as said then, so that
        who rates old answers anew after a turn of their taste is believed."""
        ids = [str(message_id) for message_id in self._store.zrange(keys.rated(uid), 0, -1)]
        stand = [feedback for feedback in self.of(uid, ids).values() if feedback.stands]
        return sorted(stand, key=lambda feedback: feedback.updated)

    def history(self, uid: str) -> list[dict[str, Any]]:
        """Every revision of every rating as JSON, by message in the order of first ratings."""
        ids = [str(message_id) for message_id in self._store.zrange(keys.rated(uid), 0, -1)]
        newest = list(self.of(uid, ids).values())
        old = [_feedback(json.loads(entry)) for entry in self._store.lrange(keys.old_ratings(uid), 0, -1)]
        place = {message_id: number for number, message_id in enumerate(ids)}
        # What was rated or changed between these looks is in none of them, or in two.
        said = {(each.message_id, each.revision): each for each in old + newest if each.message_id in place}
        every = sorted(said.values(), key=lambda each: (place[each.message_id], each.revision))
        return [each.to_json() for each in every]

    def counts(self, uid: str) -> Counts:
        """How many ratings there are of each kind."""
        with self._store.pipeline(transaction=False) as pipe:
            pipe.hmget(keys.counts(uid), ["up", "down", "used"])
            pipe.zcard(keys.queued(uid))
            (up, down, used), queued = pipe.execute()
        return Counts(int(up or 0), int(down or 0), int(queued), int(used or 0))

    def thumbs(self, uid: str, version: int) -> Thumbs:
        """What stands of what was said of this version's answers; of the base model's (0) where it answered for want of
        a version, not where `base` was asked for. Refused ones count: an empty answer teaches nothing and is a bad one.
        """
        counted = self._counted(uid)
        return Thumbs(counted[version, "personal", "up"], counted[version, "personal", "down"])

    def thumbs_by_version(self, uid: str) -> dict[int, Thumbs]:
        """The same of every version that has any, in their order, the base model's wherever it answered."""
        counted = self._counted(uid)

        def of(version: int, rating: str) -> int:
            return sum(counted[version, asked, rating] for asked in ("personal", "base"))

        versions = sorted({version for version, _, _ in counted})
        return {version: Thumbs(of(version, "up"), of(version, "down")) for version in versions}

    def _counted(self, uid: str) -> Counter[tuple[int, str, str]]:
        """Standing ratings by version, by what was asked for (`personal` or `base`) and by thumb."""
        counted: Counter[tuple[int, str, str]] = Counter()
        for place in itertools.count(0, PAGE):
            args = [place, place + PAGE - 1, keys.rating(uid, ANY), keys.message(uid, ANY)]
            seen, *groups = self._store.read(THUMBS, [keys.rated(uid)], args)
            for group, count in zip(groups[::2], groups[1::2], strict=True):
                version, asked, rating = group.split()
                counted[int(version), asked, rating] += count
            if seen < PAGE:
                break
        return counted

    # what the adapter store asks before it publishes or retires

    def stands(self, uid: str) -> Callable[[str, int], bool]:
        """Whether what was said since this revision stands now; looked up at each call."""

        def look(message_id: str, revision: int) -> bool:
            found = self._store.hmget(keys.rating(uid, message_id), ["since", "state"])
            return found[0] == str(revision) and found[1] in ("queued", "used")

        return look

    def not_withdrawn(self, uid: str) -> Callable[[str, int], bool]:
        """Whether this revision was never withdrawn (it may have been replaced); looked up at each call."""

        def look(message_id: str, revision: int) -> bool:
            found = self._store.hmget(keys.rating(uid, message_id), ["revision", "withdrawn_revision"])
            return found[0] is not None and revision > int(found[1] or 0)

        return look


def _reply(reply: Sequence[Any]) -> Any:
    """What a script found, or the error that it reports."""
    errors = {
        "gone": UserGone("this user is no longer here"),
        "unknown": UnknownMessage("there is no such message"),
        "running": NotEnded("this message's answer has not ended yet; rate it when it has"),
        "unrated": NotRated("this message has no rating"),
        "conflict": KeyConflict("this Idempotency-Key was used with another body; use a new key"),
    }
    if reply[0] in errors:
        raise errors[reply[0]]
    return reply[1] if len(reply) > 1 else None


def _put(fields: Sequence[str], now: float) -> Put:
    """A script that ran twice tells the same twice: both times it was given the same `now`."""
    found = _hash(fields)
    return Put(_feedback(found), ended=found.get("ended_round") == repr(now))


def _hash(fields: Sequence[str]) -> dict[str, str]:
    """From a script's list of names and values."""
    return dict(zip(fields[::2], fields[1::2], strict=True))


def _feedback(fields: Mapping[str, str] | Sequence[str]) -> Feedback:
    if not isinstance(fields, Mapping):
        fields = _hash(fields)
    return Feedback(
        message_id=fields["message_id"],
        **json.loads(fields["body"]),
        revision=int(fields["revision"]),
        state=fields["state"],  # type: ignore[arg-type]  # one of FeedbackState
        adapter_version=int(fields["adapter_version"]),
        used_in=[int(version) for version in fields["used_in"].split(",") if version],
        reason=fields["reason"] or None,
        held_out=fields["held_out"] == "1",
        created=int(float(fields["created"])),
        updated=int(float(fields["updated"])),
        since=int(fields["since"]),
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
