"""Keeps a lock while something long runs: a thread that renews it.

Knows time and a function that renews. Does not know what is locked, or Redis.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType

log = logging.getLogger(__name__)


class Keeper:
    """Renews every `every` seconds inside a `with` block. `lost` is true once somebody else holds the lock.

    `renew` returns False if the lock is somebody else's, and raises one of `passing` if it could not find out: then the
    next time decides, as the lock may well outlive a short silence.
    """

    def __init__(self, renew: Callable[[], bool], every: float, passing: type[Exception]) -> None:
        self._renew, self._every, self._passing = renew, every, passing
        self._end = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lock-keeper", daemon=True)

    @property
    def lost(self) -> bool:
        return self._lost.is_set()

    def __enter__(self) -> Keeper:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(self._every):
            try:
                if not self._renew():
                    self._lost.set()
                    return
            except self._passing as error:
                log.warning("a lock could not be renewed, trying again in %.0f s: %s", self._every, error)
