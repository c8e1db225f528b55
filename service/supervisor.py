"""`thumbtune serve`: a Redis of its own (unless one is named), the API and one trainer, kept alive on one machine.

Knows the order in which the parts start and stop, and which end of a part is worth another try. Does not know what the
parts do: they share with each other, and with this, only the settings, the data folder and Redis.

    start   Redis → the API, until it is ready → the first user → the trainer
    stop    the API and the trainer together, within the grace time → Redis
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from types import FrameType

import httpx

from service import welcome
from service.children import Child
from service.operator import address
from service.settings import Settings, part_environment
from service.starting import alone, bound
from service.stop import Stop
from service.valkey import Valkey

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.1  # between two looks at the children
BEYOND_GRACE_SECONDS = 15.0  # that the API gets after its grace time, to write down how its answers ended
HOPELESS = (
    2,
    3,
)  # exit codes of a part that would fail the same way again: a bad setting, model, folder or port


class GaveUp(Exception):
    """A part cannot start; it has said why. `code` is its exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def serve(settings: Settings) -> int:
    """Run until SIGTERM, SIGINT or the terminal's end; the exit code. Raises `CannotStart`."""
    with alone(settings.folder / "serve.lock", "`thumbtune serve`"):
        # The API of a supervisor that was killed ends by itself, once its running answers have.
        with alone(settings.folder / "api.lock", "API", patience=settings.grace + BEYOND_GRACE_SECONDS):
            bound(settings).close()
        return Supervisor(settings).run()


class Supervisor:
    """The parts, and one thread that looks after them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._valkey = Valkey(settings.folder) if settings.redis_url is None else None
        self._api = Child("the API", _part("api"), env=part_environment())
        self._trainer = Child("the trainer", _part("trainer"), env=part_environment())
        self._stop = Stop()
        self._hurry = Stop()

    def run(self) -> int:
        """Start, look after, stop; the exit code. Raises `ServerFailed` and what `welcome.show` raises."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup ignores it, to go on without a terminal
            signal.signal(signal.SIGHUP, self._on_signal)
        try:
            self._start()
            while not self._stop.wait(LOOK_SECONDS):
                self._look()
            return 0
        except GaveUp as gave_up:
            return gave_up.code
        finally:
            self._shut_down()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        # The second one: somebody will not wait. Not so SIGHUP, which kernel, shell and make all send for one terminal.
        if self._stop.is_set() and number != signal.SIGHUP:
            self._hurry.set()
        self._stop.set()

    def _start(self) -> None:
        """Returns when all parts are started and the API is ready, or a signal came. Raises `GaveUp`."""
        if self._valkey:
            self._valkey.start()
            self._valkey.wait_ready()
        self._api.start()
        while not self._ready():
            if self._stop.wait(LOOK_SECONDS):
                return
            self._look(starting=True)
        welcome.show(self._settings)
        self._trainer.start()

    def _look(self, starting: bool = False) -> None:
        """Plan the restart of what has died. Raises `GaveUp` if it died `starting` and would again."""
        for child in self._children():
            code = child.watch()
            if code is None:
                continue
            if starting and code in HOPELESS:
                raise GaveUp(code)
            log.error("%s ended with %d; starting it again in %.1f s", child.name, code, child.pause)

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{address(self._settings)}/readyz", timeout=5, trust_env=False).is_success
        except httpx.TransportError:
            return False

    def _shut_down(self) -> None:
        """Redis last: answers under way and the round are still written down."""
        end = time.monotonic() + self._settings.grace + BEYOND_GRACE_SECONDS
        for child in (self._api, self._trainer):
            child.ask_to_stop()
        for child in (self._api, self._trainer):
            while child.pid is not None and time.monotonic() < end and not self._hurry.is_set():
                time.sleep(LOOK_SECONDS / 2)
            if not child.wait(0.0):
                log.error("%s did not stop in time and was killed", child.name)
        if self._valkey:
            self._valkey.stop()

    def _children(self) -> list[Child]:
        server = self._valkey.child if self._valkey else None
        return [child for child in (server, self._api, self._trainer) if child]


def _part(name: str) -> list[str]:
    return [sys.executable, "-m", "service", name]
