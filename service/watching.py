"""The watch after publication: a version whose answers people like less than those of the one before gives way to it.

Knows when to look, what is asked of the ratings and the adapter store, and in which order. Does not know from when on
a version is worse (feedback/watch.py), or HTTP.

It is the API that looks, every few seconds: a trainer may be busy with somebody's round for minutes. A rating only
notes its user, so it costs nothing more. The notes are lost with the process, and so every user is looked at after its
start. What is decided is one change of the head, at the epoch from before the thumbs were counted: whatever comes in
between voids it, and it is decided anew.
"""

from __future__ import annotations

import logging

from adapters.errors import Overtaken, UnknownUser
from adapters.head import Head
from feedback.connection import StoreError as RedisError
from feedback.events import UserGone
from feedback.watch import verdict
from service.learning import DISK_ERRORS, finished_later, learn_again
from service.parts import Parts

log = logging.getLogger(__name__)


def watch(parts: Parts) -> None:
    """Looks at whoever has rated since the last time. Raises Redis's `StoreError`; the rest is then for next time."""
    for uid in list(parts.unwatched):
        parts.unwatched.discard(uid)  # first: what is rated from here on counts anew
        try:
            look(parts, uid)
        except (UnknownUser, UserGone):
            continue  # deleted, or about to be
        except Overtaken:
            parts.unwatched.add(uid)
        except DISK_ERRORS as error:
            parts.unwatched.add(uid)
            log.error("the watch over a version waits for the disk: %s", error)
        except RedisError:
            parts.unwatched.add(uid)
            raise


def look(parts: Parts, uid: str) -> None:
    """Rolls back where there is reason to, and asks for a round, which begins from the version rolled back to: what is
    said against the other one teaches, even where a round that was held had learnt from it before.

    Raises `UnknownUser`, `Overtaken`, the stores' errors: then nothing is decided, or upkeep asks for the round later.
    """
    head = parts.store.head(uid)
    if head.previous is None:
        if _owes_a_round(parts, uid, head):
            learn_again(parts, uid)
        return
    new, old = (parts.ratings.thumbs(uid, version) for version in (head.active, head.previous))
    why = verdict(new, old)
    if why is None or parts.store.version(uid, head.active).metrics.get("stepped_back"):
        return  # after a turn of the taste, what was said of the version before was said by another taste
    parts.store.fall_back(uid, head.epoch, why)
    log.warning("a version gave way to the one before it: %s", why)
    with finished_later(parts, uid):
        learn_again(parts, uid)


def _owes_a_round(parts: Parts, uid: str, head: Head) -> bool:
    """Whether a version gave way and no round has begun or waits since: the process was killed in between."""
    if not head.rolled_back:
        return False
    gave_way, newest = head.rolled_back[-1].at, parts.rounds.list(uid, 1)
    return not any(each.state == "waiting" or (each.started or each.created) >= gave_way for each in newest)
