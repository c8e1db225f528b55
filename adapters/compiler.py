"""The kernels of adapters/kernel, compiled for this machine's processor the first time that they are needed.

Knows C compilers and where the result is kept; knows nothing of models. A machine without a compiler gets one from the
package index (`make install` sees to it: ziglang); without any, the model runs through PyTorch alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

SOURCES = Path(__file__).parent / "kernel"
FLAGS = ("-std=gnu11", "-O3", "-shared", "-fPIC", "-fno-math-errno", "-fno-trapping-math")
PATIENCE = 300  # seconds for one compilation


class CannotCompile(Exception):
    """No kernels on this machine; the message says why."""


def kernels(report: Callable[[str], None]) -> ctypes.CDLL:
    """The compiled library, from the last time or built now, by the first compiler that can. Raises `CannotCompile`."""
    failed = []
    for compiler in _compilers():
        try:
            return _library(compiler, report)
        except CannotCompile as error:
            failed.append(str(error))
    raise CannotCompile(
        "; ".join(failed) or "there is no C compiler (cc), and the package ziglang is not installed"
    )


def _library(compiler: list[str], report: Callable[[str], None]) -> ctypes.CDLL:
    sources = sorted(SOURCES.glob("*.[ch]"))
    key = hashlib.sha256(" ".join([*compiler, *FLAGS, _processor()]).encode())
    for source in sources:
        key.update(source.read_bytes())
    try:
        library = _folder() / f"kernel-{key.hexdigest()[:24]}.so"
        if library.exists() and _ours(library):
            with contextlib.suppress(OSError):  # cut off by a full disk or a power cut: made anew
                return ctypes.CDLL(str(library))
        report("compiling the kernels for this processor, once")
        _compile([*compiler, *FLAGS], [str(source) for source in sources if source.suffix == ".c"], library)
        return ctypes.CDLL(str(library))
    except OSError as error:
        raise CannotCompile(f"the compiled kernels cannot be kept or loaded: {error}") from error


def _compilers() -> list[list[str]]:
    found = []
    if compiler := shutil.which("cc"):
        found.append([compiler, "-march=native"])
    if find_spec("ziglang"):
        found.append([sys.executable, "-m", "ziglang", "cc", "-mcpu=native", "-fno-sanitize=undefined"])
    return found


def _processor() -> str:
    """What `native` means here: a folder may be carried to another machine."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() + platform.machine()
    return "".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))


def _folder() -> Path:
    """The user's cache, or where that cannot be written, a folder that ends with the process's machine."""
    try:
        folder = Path.home() / ".cache" / "thumbtune"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.access(folder, os.W_OK) and _ours(folder):
            return folder
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        pass
    return Path(tempfile.mkdtemp(prefix="thumbtune-"))  # a name that nobody could have made before


def _ours(path: Path) -> bool:
    """Whether nobody else could have put something there: what is loaded runs with this user's rights."""
    status = path.lstat()
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _compile(command: list[str], sources: list[str], library: Path) -> None:
    # zig insists on a cache, and its own choice is in a home that may not be there
    caches = [f"ZIG_{which}_CACHE_DIR={library.parent / 'zig'}" for which in ("GLOBAL", "LOCAL")]
    handle, part = tempfile.mkstemp(dir=library.parent, suffix=".so")
    os.close(handle)
    try:
        subprocess.run(
            ["env", *caches, *command, *sources, "-o", part, "-lm", "-lpthread"],
            check=True, capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        os.replace(part, library)  # two processes that start together compile the same file
    except (OSError, subprocess.SubprocessError) as error:
        Path(part).unlink(missing_ok=True)
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise CannotCompile(f"{command[0]} failed: {said[0] if said else error}") from error
