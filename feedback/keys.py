"""The name of every key in Redis, and what lies there.

Knows names only. All begin `thumbtune:`, and all of one user's begin with `of_user(uid)`. Scripts build none of them:
they are given these names, or a name with `%s` for the part that they find out themselves. One Redis, not a cluster.
"""

from __future__ import annotations

PREFIX = "thumbtune:"

# who there is
IDS = f"{PREFIX}ids"  # hash: external id → uid
API_KEYS = f"{PREFIX}api-keys"  # hash: SHA-256 of a key → uid
ACCOUNTS = f"{PREFIX}accounts"  # sorted set: uid by the order of making
ACCOUNT_COUNTER = f"{PREFIX}account-counter"  # integer: the last place in that order
LEAVING = f"{PREFIX}leaving"  # set: uids whose deletion has begun and not ended
REWRITE = f"{PREFIX}rewrite"  # string: there while Redis's file may hold text of a user who is gone

INSTANCE = f"{PREFIX}instance"  # string: the id of the data folder that this Redis belongs to
MARK = f"{PREFIX}mark"  # string, empty: written before each wait for the disk, so that there is something to wait for

# the queue
EVENTS = f"{PREFIX}events"  # stream: {uid, message_id, revision}: this user has something new
TRAINERS = "trainers"  # its consumer group
DEAD = f"{PREFIX}events:dead"  # stream: what could not be handled, and why
DUE = f"{PREFIX}due"  # sorted set: uid by the Unix time of the oldest rating that no round has learnt from
UNFINISHED = f"{PREFIX}unfinished"  # set: "uid message_id" of answers that are being written


def of_user(uid: str) -> str:
    """What every key of this user begins with."""
    return f"{PREFIX}user:{uid}:"


def account(uid: str) -> str:
    """String: the account as JSON; while it is there, the user is."""
    return f"{of_user(uid)}account"


# messages


def message_ids(uid: str) -> str:
    """Sorted set, all scores 0: the user's message ids, which sort by time."""
    return f"{of_user(uid)}message-ids"


def message(uid: str, message_id: str) -> str:
    """Hash: record (JSON), adapter_version, model; once ended: answer, finish_reason, empty."""
    return f"{of_user(uid)}message:{message_id}"


# ratings


def rated(uid: str) -> str:
    """Sorted set: message ids by the Unix time of their first rating, withdrawn ones included."""
    return f"{of_user(uid)}rated"


def rating(uid: str, message_id: str) -> str:
    """Hash: the newest revision of the message's rating; `taught` once a version was made with any of its revisions."""
    return f"{of_user(uid)}rating:{message_id}"


def old_ratings(uid: str) -> str:
    """List: every earlier revision of every rating, as JSON."""
    return f"{of_user(uid)}old-ratings"


def queued(uid: str) -> str:
    """Sorted set: message ids whose standing rating no round has learnt from, by the Unix time of that rating."""
    return f"{of_user(uid)}queued"


def counts(uid: str) -> str:
    """Hash: up, down (not withdrawn), used, and first_up, first_down (ever rated so first)."""
    return f"{of_user(uid)}counts"


def idempotency(uid: str, day: int) -> str:
    """Hash: idempotency key's hash → "time, hash of the body", of one day (Unix days); it expires by itself."""
    return f"{of_user(uid)}idempotency:{day}"


# rounds


def round_ids(uid: str) -> str:
    """Sorted set, all scores 0: the user's round ids, which sort by time."""
    return f"{of_user(uid)}round-ids"


def round(uid: str, round_id: str) -> str:
    """Hash: the fields of a Round; `settles` while it waits for more changes that may come in one go."""
    return f"{of_user(uid)}round:{round_id}"


def current_round(uid: str) -> str:
    """String: the id of the round that waits or runs."""
    return f"{of_user(uid)}current-round"


def round_uses(uid: str) -> str:
    """Set: "message_id:revision" of every rating that the running round learns from."""
    return f"{of_user(uid)}round-uses"


def lock(uid: str) -> str:
    """String with an expiry: the claim of the trainer that works for this user."""
    return f"{of_user(uid)}lock"


def trouble(uid: str) -> str:
    """Hash: failures in a row, reason, and the Unix time before which nobody tries again."""
    return f"{of_user(uid)}trouble"
