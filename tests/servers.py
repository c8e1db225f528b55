"""Servers with settings of their own, and one that is too old, for tests of what is promised where."""

import os
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager

from feedback.connection import StoreUnavailable, connect
from service.valkey import binary

PROGRAMS = [str(binary()), *filter(None, [shutil.which("redis-server")])]


@contextmanager
def server(folder, program=None, **options):
    """A server in `folder`, on a socket there; yields its URL. `options`: settings, `_` for `-`."""
    folder.mkdir(exist_ok=True)
    socket = folder / "s"
    settings = {"port": 0, "unixsocket": socket, "dir": folder, "save": "", **options}
    words = [str(word) for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", value)]
    process = subprocess.Popen([program or str(binary()), *words], stdout=subprocess.DEVNULL)
    try:
        url = f"unix://{socket}"
        wait_for(url)
        yield url
    finally:
        process.kill()
        process.wait()


def hang(url):
    """Stops the process behind a socket where it stands; returns what lets it go on."""
    with connect(url) as store:
        pid = store.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    return lambda: os.kill(pid, signal.SIGCONT)


def wait_for(url, seconds=10):
    end = time.monotonic() + seconds
    with connect(url) as store:
        while True:
            try:
                return store.ping()
            except StoreUnavailable:
                assert time.monotonic() < end, "the server does not come up"
