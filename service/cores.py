"""The processor's cores, shared by the answers of one API and the rounds of the trainers on its data folder.

Knows two marks in the data folder, and how many threads the kernels of either side get. Does not know engines, rounds
or what is computed. The threads of a pass meet some 300 times, and each time wait for the one that another process has
put off its core; a few rows of chat wait for memory rather than for cores. So a few rows and a round take half of the
cores each while both are there, and either takes all when it is alone. Many rows are bound by the cores and keep them:
beside these, a round steps back by its niceness alone.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import torch

FEW = 8  # rows that one step decodes; from there on it is bound by the cores
LINGER_SECONDS = (
    1.0  # that a chat still counts for a round: between two answers, and for about one pass of a round
)


class Mark:
    """A file that is locked while somebody computes. The lock ends with the process, however that ends."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._shown = False

    def show(self, on: bool) -> None:
        """To be called again and again: it never waits, and is not shown yet if somebody was just looking."""
        if on and not self._shown:
            self._shown = self._lock(fcntl.LOCK_SH)
        elif self._shown and not on:
            fcntl.flock(self._handle, fcntl.LOCK_UN)
            self._shown = False

    def seen(self) -> bool:
        """Whether another process shows it. Two that look in the same microsecond may take each other for one."""
        if not self._lock(fcntl.LOCK_EX):
            return True
        fcntl.flock(self._handle, fcntl.LOCK_UN)
        return False

    def close(self) -> None:
        """Shows nothing any more."""
        os.close(self._handle)

    def _lock(self, kind: int) -> bool:
        try:
            fcntl.flock(self._handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


class ChatCores:
    """The API's part."""

    def __init__(self, folder: Path) -> None:
        self._chat, self._round = _marks(folder)
        self._few = True

    def tell(self, rows: int) -> None:
        """How many answers there are now, to be told after every step."""
        self._few = rows <= FEW
        self._chat.show(0 < rows <= FEW)

    def threads(self) -> int:
        """For the kernels' next pass."""
        return half() if self._few and self._round.seen() else torch.get_num_threads()

    def close(self) -> None:
        """No answers any more."""
        for mark in (self._chat, self._round):
            mark.close()


class RoundCores:
    """A trainer's part."""

    def __init__(self, folder: Path) -> None:
        self._chat, self._round = _marks(folder)
        self._seen = -LINGER_SECONDS

    def threads(self) -> int:
        """For the kernels' next pass; from the first one on there is a round, until `rest`."""
        self._round.show(True)
        now = time.monotonic()
        if self._chat.seen():
            self._seen = now
        return half() if now < self._seen + LINGER_SECONDS else torch.get_num_threads()

    def rest(self) -> None:
        """The round is over."""
        self._round.show(False)


def half() -> int:
    """Threads on half of the cores that a process uses."""
    return max(1, torch.get_num_threads() // 2)


def _marks(folder: Path) -> tuple[Mark, Mark]:
    """Chat's, and the rounds'."""
    return Mark(folder / "chat.lock"), Mark(folder / "round.lock")
