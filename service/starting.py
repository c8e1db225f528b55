"""What every part of the service needs at its start: a lock that keeps a second one away, and the way to its Redis.

Knows files and settings. Does not know which part asks.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.settings import Settings
from service.valkey import Valkey


class CannotStart(Exception):
    """The part cannot start like this; the message says why and what would help."""


@contextmanager
def alone(lock: Path, what: str) -> Iterator[None]:
    """Holds the lock file for one process; it is free again when the process ends, however that happens.

    Raises `CannotStart` if another process holds it; `what` names that one in the message.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotStart(
                f"another {what} runs on {lock.parent}: stop it, or name another folder in THUMBTUNE_DATA"
            ) from None
        yield
    finally:
        os.close(handle)


def redis_url(settings: Settings) -> str:
    """The Redis that is named, else the one that `thumbtune serve` runs in the data folder. Raises `CannotStart`."""
    if settings.redis_url is not None:
        return settings.redis_url
    embedded = Valkey(settings.folder)
    if not embedded.socket.exists():
        raise CannotStart(
            f"there is no Redis: THUMBTUNE_REDIS_URL is unset, and no `thumbtune serve` runs on {settings.folder}"
        )
    return embedded.url
