"""A service of its own for a measurement: `thumbtune serve` as a process, on a new data folder and a free port.

Knows how it is started, stopped and asked for users. Does not know what is measured on it.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks import workload
from service.operator import ADMIN_KEY_FILE, Operator
from service.person import Person
from service.settings import PREFIX

START_SECONDS, STOP_SECONDS = 300.0, 60.0
READY = "the trainer is ready"


class DidNotStart(Exception):
    """The service ended or said nothing in time; the message is the last that it said."""


@dataclass(frozen=True)
class Service:
    """A running service."""

    port: int
    data: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def keys(self, count: int) -> list[str]:
        """The keys of new users."""
        operator = Operator(self.url, (self.data / ADMIN_KEY_FILE).read_text().strip())
        return [operator.add(None)["api_key"] for _ in range(count)]

    def person(self) -> Person:
        """A new user with hands."""
        return Person(self.url, self.keys(1)[0])

    def tokens(self) -> float:
        """Answer tokens made since the start."""
        said = httpx.get(f"{self.url}/metrics", timeout=60, trust_env=False).text
        found = re.search(r'^thumbtune_tokens_total\{kind="completion"\} (\S+)', said, re.MULTILINE)
        return float(found[1]) if found else 0.0


@contextmanager
def served(name: str, **settings: object) -> Iterator[Service]:
    """A service whose trainer is ready, too; its folder is gone afterwards. Raises `DidNotStart`."""
    folder = workload.BUILD / "data" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    port = _free_port()
    given = {"data": folder, "port": port, "model": workload.embedded().path, **settings}
    outside = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    env = outside | {PREFIX + name.upper(): str(value) for name, value in given.items()}
    log = workload.BUILD / "logs" / f"{name}.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("w") as out:
        command = [sys.executable, "-m", "service", "serve"]
        process = subprocess.Popen(command, cwd=workload.ROOT, env=env, stdout=out, stderr=subprocess.STDOUT)
    try:
        _wait(process, log)
        yield Service(port, folder)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _wait(process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while READY not in (said := log.read_text()):
        if process.poll() is not None or time.monotonic() > end:
            raise DidNotStart(said.strip().splitlines()[-1] if said.strip() else "it said nothing")
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
