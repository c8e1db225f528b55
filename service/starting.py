"""What parts of the service need at their start: a lock that keeps a second one away, the port, the way to Redis.

Knows files, settings and sockets. Does not know which part asks.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from service.settings import Settings
from service.valkey import Valkey


class CannotStart(Exception):
    """The part cannot start like this; the message says why and what would help."""


@contextmanager
def alone(lock: Path, what: str, patience: float = 0.0) -> Iterator[None]:
    """Holds the lock file for one process; it is free again when the process ends, however that happens.

    Raises `CannotStart` if another process still holds it after `patience` seconds; `what` names that one.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        end = time.monotonic() + patience
        while not _locked(handle):
            if time.monotonic() >= end:
                raise CannotStart(
                    f"another {what} runs on {lock.parent}: stop it, or name another folder in THUMBTUNE_DATA"
                )
            time.sleep(0.1)
        yield
    finally:
        os.close(handle)


def bound(settings: Settings) -> socket.socket:
    """A socket that holds the API's port; nobody can connect before somebody listens on it. Raises `CannotStart`."""
    host, port = settings.host, settings.port
    with ExitStack() as on_failure:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            listener = on_failure.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError as error:
            raise CannotStart(
                f"cannot listen on {host}:{port}: {error.strerror}; set THUMBTUNE_HOST or THUMBTUNE_PORT"
            ) from None
        on_failure.pop_all()
    return listener


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


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
