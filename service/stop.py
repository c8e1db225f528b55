"""A stop that a signal asks for.

Knows that a second signal may come while the first one is being answered, in the same thread: `threading.Event` holds a
lock meanwhile that the second would wait for, for ever. `queue.SimpleQueue.put` is made for that ("reentrant").
"""

from __future__ import annotations

import queue
import threading
from contextlib import suppress


class Stop(threading.Event):
    """An event that a signal's handler may set, however many signals come at once; it is never cleared."""

    def __init__(self) -> None:
        super().__init__()
        self._asked = False
        self._told: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        """From now on nobody waits."""
        self._asked = True
        self._told.put(None)

    def is_set(self) -> bool:
        """Whether it was asked for."""
        return self._asked

    def wait(self, timeout: float | None = None) -> bool:
        """Up to `timeout` seconds, or until it is asked for; whether it was. For one thread at a time."""
        if not self._asked:
            with suppress(queue.Empty):
                self._told.get(timeout=timeout)
        return self._asked
