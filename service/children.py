"""A process that is kept alive: started, restarted with a growing pause when it dies, and stopped within a grace time.

Knows processes, signals and time. Does not know what the processes do.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class BackOff:
    """How long to wait before each restart, in seconds: first, doubled each time, at most `longest`."""

    first: float = 0.5
    longest: float = 30.0
    settled: float = 60.0  # a process that lived this long starts again from `first`

    def pause(self, deaths: int) -> float:
        """Seconds to wait after the `deaths`-th death in a row (1 is the first)."""
        return min(self.longest, self.first * 2.0 ** min(deaths - 1, 16))


class Child:
    """One process by its command line. Not thread-safe: it belongs to the supervisor's main thread.

    It must be started from the main thread: Linux sends the parent-death signal when the *thread*
    that started the process ends.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        env: Mapping[str, str] | None = None,
        back_off: BackOff | None = None,
    ) -> None:
        """`env`: the process's whole environment; None: the supervisor's own."""
        self.name = name
        self.command = list(command)
        self.env = env
        self.back_off = back_off or BackOff()
        self.deaths = 0  # in a row
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._start_at: float | None = None

    @property
    def pid(self) -> int | None:
        """The running process's id, or None."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def pause(self) -> float:
        """Seconds between its last death and its restart."""
        return self.back_off.pause(self.deaths)

    def start(self) -> None:
        """Start the process now, in a process group of its own: Ctrl-C in the terminal reaches only
        the supervisor, which stops its children in order."""
        self._process = subprocess.Popen(
            self.command,
            env=self.env,
            stdin=subprocess.DEVNULL,
            process_group=0,
            preexec_fn=_die_with_parent(),
        )
        self._started = time.monotonic()
        self._start_at = None

    def watch(self) -> int | None:
        """Look once. Returns the exit code if the process has just died (a restart is then planned), else
        None; starts it again when its pause is over."""
        if self._process is None:
            if self._start_at is not None and time.monotonic() >= self._start_at:
                self.start()
            return None
        code = self._process.poll()
        if code is None:
            return None
        now = time.monotonic()
        self.deaths = 1 if now - self._started >= self.back_off.settled else self.deaths + 1
        self._start_at = now + self.pause
        self._process = None
        return code

    def ask_to_stop(self) -> None:
        """SIGTERM; `watch` is not called after this."""
        self._start_at = None
        if self.pid is not None:
            assert self._process is not None
            self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> bool:
        """Wait for the end of a process that was asked to stop; False if it had to be killed."""
        if self._process is None:
            return True
        try:
            self._process.wait(timeout=max(0.0, seconds))
            return True
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return False


def _die_with_parent() -> Callable[[], None] | None:
    """A function for the child between fork and exec: SIGTERM comes when the supervisor dies, kill -9 included.
    None where the system has no such thing; an orphan is then found by the locks that it still holds."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(1)

    return ask
