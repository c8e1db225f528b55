"""How a user goes, so that nothing is left and nothing comes back.

Knows the order: first nobody gets in, then everything under way ends, then the adapters, the records, the account.
A deletion cut short is in `keys.LEAVING` and finished by upkeep.
"""

from __future__ import annotations

import threading

from feedback.removal import remove_records, rewrite_log
from service.parts import Parts

WAIT_SECONDS = 15.0  # for the user's own calls to end

_one_at_a_time = threading.Lock()  # the call and upkeep may both come to one user


def delete_user(parts: Parts, uid: str) -> None:
    """Returns when nothing of the user is left. Raises `NoSuchUser`, `StillBusy`, and the stores' errors."""
    parts.accounts.lock_out(uid)
    finish_deletion(parts, uid)


def finish_deletion(parts: Parts, uid: str) -> None:
    """All that comes after nobody can get in any more. May be done twice."""
    parts.presence.close(uid)
    parts.generation.cancel_user(uid)
    parts.presence.wait_empty(uid, WAIT_SECONDS)
    parts.generation.forget_user(uid)
    with _one_at_a_time:
        parts.store.remove(uid)
        remove_records(parts.redis, uid)
        parts.accounts.forget(uid)
        rewrite_log(parts.redis)
