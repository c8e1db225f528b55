"""Which users have calls under way, so that a deletion can wait for them.

Knows counts by internal id. There is one API process a data folder, so what is counted here is all there is. Does not
know what the calls do. A call enters before it writes anything and leaves after it wrote the last; once a user is
closed nobody enters, so after `wait_empty` nothing more is written for that user by this process.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Closed(Exception):
    """The user is being deleted, or is deleted."""


class StillBusy(Exception):
    """A user's calls did not end in time."""


class Presence:
    """Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside: Counter[str] = Counter()
        # Never emptied: a call that was let in by its key before the deletion may come here long after it.
        self._closed: set[str] = set()

    def enter(self, uid: str) -> None:
        """Raises `Closed`."""
        with self._changed:
            self.check(uid)
            self._inside[uid] += 1

    def leave(self, uid: str) -> None:
        """Ends what `enter` began."""
        with self._changed:
            self._inside[uid] -= 1
            if not self._inside[uid]:
                del self._inside[uid]
                self._changed.notify_all()

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
        with self._changed:
            self._closed.add(uid)

    def check(self, uid: str) -> None:
        """Raises `Closed` if the user has been closed since the call came in."""
        with self._changed:
            if uid in self._closed:
                raise Closed("this user is no longer here")

    def wait_empty(self, uid: str, seconds: float) -> None:
        """Returns once everybody has left. Raises `StillBusy` after `seconds`."""
        end = time.monotonic() + seconds
        with self._changed:
            while self._inside[uid]:
                if not self._changed.wait(end - time.monotonic()):
                    raise StillBusy(
                        "this user's calls have not ended yet; the rest is deleted as soon as they have"
                    )
