"""What a change of mind does: to the rating, to the round that is learning from it, to the versions shaped by it.

Knows the order in which Redis and the adapter store change, so that a crash in between leaves nothing that a withdrawn
rating still shapes: the rating goes first, and what was trained on it is found by asking which ratings stand.
Does not know HTTP.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from adapters.errors import StoreError, UnknownUser
from adapters.lineage import clean
from feedback.connection import StoreError as RedisError
from feedback.events import Feedback, NothingRated, UserGone
from service.parts import Parts
from service.schemas import Rating

log = logging.getLogger(__name__)

DISK_ERRORS = (StoreError, OSError)


async def rate(
    parts: Parts, uid: str, message_id: str, said: Rating, idempotency_key: str | None
) -> Feedback:
    """Rates a message, for the first time or anew. A round that uses the rating's earlier revision ends."""
    call = parts.ratings.putting(
        uid, message_id, said.rating, said.tags or [], said.comment, said.correction, idempotency_key
    )
    try:
        put = await parts.courier.do(call)
    finally:  # an error may come of it, and the rating stand all the same
        parts.unwatched.add(uid)
    if put.ended:  # so that its trainer soon notices; what the old revision shaped is not published anyhow
        await asyncio.to_thread(parts.store.overtake, uid)
    return put.feedback


def withdraw(parts: Parts, uid: str, message_id: str) -> Feedback:
    """The rating goes; the newest version not shaped by it is active at once, and a round over the rest begins."""
    with finished_later(parts, uid):
        before = _overtaken(parts, uid)
        taught = _has_taught(parts, uid, message_id)
        feedback = parts.ratings.withdraw(uid, message_id)
        parts.unwatched.add(uid)
        if taught or _shaped_any(parts, uid, message_id) or _overtaken(parts, uid) - before:
            _take_back(parts, uid)
    return feedback


def finish_withdrawals(parts: Parts) -> None:
    """What withdrawals left half done, because a store failed on the way, is done, and the round asked for that the
    watch owes; at worst a round too many.

    Raises Redis's `StoreError`.
    """
    for uid in list(parts.half_withdrawn):
        parts.half_withdrawn.discard(uid)
        try:
            with finished_later(parts, uid):
                _take_back(parts, uid)
        except (UnknownUser, UserGone):
            parts.half_withdrawn.discard(uid)
        except DISK_ERRORS as error:
            log.error("a withdrawn rating's versions wait for the disk: %s", error)


def rollback(parts: Parts, uid: str, version: int) -> None:
    """A kept version is active from the next answer on; a running round ends, and begins anew from that version."""
    with overtaking(parts, uid):
        parts.store.rollback(uid, version)


def reset(parts: Parts, uid: str, forget_feedback: bool) -> None:
    """Version 0 is active from the next answer on; with `forget_feedback` every rating is withdrawn too."""
    if forget_feedback:
        with finished_later(parts, uid):
            parts.ratings.forget(uid)
            parts.store.retire(uid, parts.ratings.not_withdrawn(uid))
    rollback(parts, uid, 0)


@contextmanager
def overtaking(parts: Parts, uid: str) -> Iterator[None]:
    """In the block the adapter becomes another than a running round began with. That round ends and is asked for anew,
    for what it was to learn is not learnt: nobody else would ask where all of it had been learnt before, by versions
    that a withdrawal has ended. So is one that replaces what a changed rating shaped, where that answers."""
    before = _overtaken(parts, uid)
    yield
    with finished_later(parts, uid):
        parts.rounds.overtake(uid)  # unless its trainer has noticed already
        ended = _overtaken(parts, uid) - before
        active = parts.store.head(uid).active
        if ended or (active and not clean(parts.store.version(uid, active), parts.ratings.stands(uid))):
            learn_again(parts, uid)


def learn_again(parts: Parts, uid: str) -> None:
    """A running round ends, and one over the ratings that stand, if any does, begins."""
    parts.rounds.overtake(uid)
    with suppress(NothingRated):
        parts.rounds.request(uid)


@contextmanager
def finished_later(parts: Parts, uid: str) -> Iterator[None]:
    """If Redis or the disk fails in the block, it may be half done: upkeep does the rest, or the next start."""
    try:
        yield
    except (RedisError, *DISK_ERRORS):
        parts.half_withdrawn.add(uid)
        raise


def _take_back(parts: Parts, uid: str) -> None:
    """No version that a withdrawn rating shaped answers, and a round over the remaining ratings begins.

    The withdrawal itself asked for one. A trainer that took it before the store's epoch rose cannot publish it: it ends
    here, and another one follows.
    """
    parts.store.retire(uid, parts.ratings.not_withdrawn(uid))
    learn_again(parts, uid)


def _overtaken(parts: Parts, uid: str) -> set[str]:
    """Which of the newest two rounds were: a withdrawal asks for a new one beside the one that it ends. Those that a
    trainer ended by itself, for it had noticed, are among them."""
    return {round.id for round in parts.rounds.list(uid, 2) if round.reason == "overtaken"}


def _shaped_any(parts: Parts, uid: str, message_id: str) -> bool:
    """Whether a version that still has its weights was trained on any revision of this rating."""
    versions = [version for version in parts.store.versions(uid) if version.state != "retired"]
    return any(revision.message_id == message_id for version in versions for revision in version.trained_on)


def _has_taught(parts: Parts, uid: str, message_id: str) -> bool:
    """Whether a version was trained on any revision of this rating, which is not withdrawn yet: be it one that was
    damaged and set aside since, and that the store lists no more."""
    revisions = [each for each in parts.ratings.history(uid) if each["message_id"] == message_id]
    return any(each["used_in"] for each in revisions) and revisions[-1]["state"] != "withdrawn"
