"""An environment of its own for a peer whose requirements the project's environment is not to hold: build/<name>.

Knows venv and pip. Does not know what is installed (vllm_setup.py, trl_setup.py). Needs nothing beyond Python itself.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class CannotInstall(Exception):
    """The peer is not to be had on this machine; the message says why."""


@dataclass(frozen=True)
class Apart:
    """The environment in build/`name`. Every method raises `CannotInstall`."""

    name: str

    @property
    def home(self) -> Path:
        return ROOT / "build" / self.name

    @property
    def python(self) -> Path:
        return self.home / "bin" / "python"

    def once(self, what: str, fill: Callable[[], None]) -> None:
        """Makes it where there is none: `fill` installs. The stamp is written last: without it, it is made anew."""
        ready = self.home / ".installed"
        if ready.exists():
            return
        print(f"Installing {what} into {self.home.relative_to(ROOT)}: some minutes, once.", flush=True)
        run([sys.executable, "-m", "venv", "--clear", str(self.home)])
        fill()
        ready.touch()

    def pip(self, *words: str) -> None:
        """`pip install` in it."""
        self.ask("-m", "pip", "--disable-pip-version-check", "install", "--quiet", *words)

    def ask(self, *words: str) -> str:
        """What its Python prints."""
        return run([str(self.python), *words])


def run(command: list[str]) -> str:
    """What a command prints. Raises `CannotInstall`."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise CannotInstall(f"{' '.join(command[:6])} …: {last}")
    return done.stdout
