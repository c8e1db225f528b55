"""Which users have calls under way, so that a deletion can wait for them.

Knows counts by internal id. There is one API process a data folder, so what is counted here is all there is. Does not
know what the calls do. A call enters before it writes anything and leaves after it wrote the last; once a user is
closed nobody enters, so after `wait_empty` nothing more is written for that user by this process.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

LOOK_SECONDS = 0.02  # calls end on any thread, so whoever waits for them looks every so often


class Closed(Exception):
    """The user is being deleted, or is deleted."""


class StillBusy(Exception):
    """A user's calls did not end in time."""


class UnderWay(Exception):
    """A user has a call of this kind under way already."""


class Presence:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside: Counter[str] = Counter()
        # Never emptied: a call that was let in by its key before the deletion may come here long after it.
        self._closed: set[str] = set()

    def enter(self, uid: str) -> None:
        """Raises `Closed`."""
        with self._lock:
            self._check(uid)
            self._inside[uid] += 1

    def leave(self, uid: str) -> None:
        """Ends what `enter` began."""
        with self._lock:
            self._inside[uid] -= 1
            if not self._inside[uid]:
                del self._inside[uid]

    @contextmanager
    def inside(self, uid: str) -> Iterator[None]:
        """Entered for the length of a `with` block."""
        self.enter(uid)
        try:
            yield
        finally:
            self.leave(uid)

    def close(self, uid: str) -> None:
        """Lets nobody in any more; who is inside stays until `leave`."""
        with self._lock:
            self._closed.add(uid)

    def check(self, uid: str) -> None:
        """Raises `Closed` if the user has been closed since the call came in."""
        with self._lock:
            self._check(uid)

    async def wait_empty(self, uid: str, seconds: float) -> None:
        """Returns once everybody has left. Raises `StillBusy` after `seconds`."""
        end = time.monotonic() + seconds
        while self._busy(uid):
            if time.monotonic() >= end:
                raise StillBusy(
                    "this user's calls have not ended yet; the rest is deleted as soon as they have"
                )
            await asyncio.sleep(LOOK_SECONDS)

    def _busy(self, uid: str) -> bool:
        with self._lock:
            return uid in self._inside

    def _check(self, uid: str) -> None:
        if uid in self._closed:
            raise Closed("this user is no longer here")


class OneEach:
    """Of a dear kind of call, one a user at a time. For the event loop alone."""

    def __init__(self) -> None:
        self._under_way: set[str] = set()

    @contextmanager
    def only(self, uid: str) -> Iterator[None]:
        """For the length of a `with` block. Raises `UnderWay`."""
        if uid in self._under_way:
            raise UnderWay("another one of yours is still under way; send this one when that has ended")
        self._under_way.add(uid)
        try:
            yield
        finally:
            self._under_way.discard(uid)
