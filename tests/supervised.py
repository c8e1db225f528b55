"""`thumbtune serve` as a real process on the tiny model, with a look at the processes that it started."""

import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.serving import environment, free_port

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Served:
    """A running `serve`: its address, data folder, process, and what it and its parts print."""

    url: str
    data: Path
    env: dict
    process: subprocess.Popen
    log: Path

    def client(self):
        """Calls as the first user."""
        key = json.loads((self.data / "first-user.json").read_text())["api_key"]
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)

    def command(self, *words):
        """Another `thumbtune` command with the same settings, run to its end."""
        command = [sys.executable, "-m", "service", *words]
        return subprocess.run(command, cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=60)

    def part(self, word):
        """The id of the part whose command line holds `word`; None while there is none."""
        return next((pid for pid, line in children(self.process.pid).items() if word in line), None)

    def pids(self):
        return set(children(self.process.pid))

    def stop(self, number=signal.SIGTERM, seconds=60):
        """Sends the signal; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(seconds)


@contextmanager
def served(folder, **settings):
    """A `Served` that says it is ready; also a second one on the same folder."""
    port = free_port()
    env = environment(folder / "data", "", port, admin_key="", **settings)
    process, log = spawn(folder, env)
    try:
        until(lambda: "trainer is ready" in log.read_text(), process, log, seconds=90)
        yield Served(f"http://127.0.0.1:{port}", folder / "data", env, process, log)
    finally:
        process.kill()
        process.wait()


def spawn(folder, env, *before):
    """`thumbtune serve`, not waited for, and the file that it prints into, emptied. `before`: what it is run by."""
    log = folder / "serve.log"
    with log.open("w") as out:
        command = [*before, sys.executable, "-m", "service", "serve"]
        return subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=subprocess.STDOUT), log


def until(true, process=None, log=None, seconds=30):
    """Waits until `true()` holds, and returns what it said."""
    end = time.monotonic() + seconds
    while not (found := true()):
        said = log.read_text() if log else ""
        assert process is None or process.poll() is None, f"ended with {process.returncode}\n{said}"
        assert time.monotonic() < end, f"not within {seconds} s\n{said}"
        time.sleep(0.05)
    return found


def children(parent):
    """pid → command line of each living child."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                state, ppid = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                if int(ppid) == parent and state != "Z":
                    found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue  # it has just ended
    return found


def alive(pid):
    """Whether the process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
