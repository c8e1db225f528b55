"""An environment of its own for TRL: `python -m benchmarks.trl_setup` makes build/trl.

Knows what TRL's KTO needs, at the versions that the project itself has. Does not know how it is trained (kto_peer.py).
"""

from __future__ import annotations

import sys

from benchmarks.apart import Apart, CannotInstall

HERE = Apart("trl")
PYTHON = HERE.python
TRL = "trl==1.16.0"
BESIDE = ("torch==2.13.0", "transformers==5.23.0", "peft==0.21.0")

__all__ = ["PYTHON", "CannotInstall", "install"]


def install() -> None:
    """Makes the environment where there is none. Raises `CannotInstall`."""
    HERE.once(TRL, _fill)


def _fill() -> None:
    HERE.pip(TRL, *BESIDE)
    HERE.ask("-c", "from trl import KTOConfig, KTOTrainer")


if __name__ == "__main__":
    try:
        install()
    except CannotInstall as error:
        sys.exit(f"TRL cannot be installed here: {error}")
