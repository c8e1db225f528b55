"""The machine: what it is called, how fast it multiplies and reads, and how fast it could decode at best.

Knows the processor (or CUDA device), the versions of what runs on it, and two measured peaks. Does not know engines.
"""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from adapters.model import pick_device, pick_dtype
from benchmarks.results import Result, Say
from benchmarks.workload import ROOT

SIDES = {"cpu": 2048, "cuda": 8192}  # of the square matrices that are multiplied
READ_BYTES = 2**30  # more than any cache holds
TRIES = 7
PACKAGES = ("torch", "transformers", "peft")


@dataclass(frozen=True)
class Peaks:
    """The best of some tries: floating-point operations and bytes read a second."""

    flops: float
    bytes: float

    @staticmethod
    @functools.cache
    def measured() -> Peaks:
        """On the device that the service takes, in the dtype that PyTorch multiplies quickest there; once a process."""
        device = pick_device("auto")
        side = SIDES.get(device.type, SIDES["cpu"])
        square = torch.randn(side, side, device=device).to(pick_dtype("auto", device))
        much = torch.ones(READ_BYTES // 4 // 4096, 4096, device=device)
        one = torch.ones(4096, device=device)
        product = _best(device, lambda: square @ square)
        reading = min(_best(device, lambda: much @ one), _best(device, much.sum))
        return Peaks(2 * side**3 / product, READ_BYTES / reading)


@dataclass(frozen=True)
class Floor:
    """What a token costs at least: every weight is read once a step, every adapter once, and multiplied once a row.

    Keys and values are left out: with contexts of some hundred tokens they add little.
    """

    weights: int
    adapter: int  # weights of one adapter
    bytes_each: int = 2

    def tokens_a_second(self, rows: int, peaks: Peaks, adapters: int | None = None) -> float:
        """With as many adapters as rows, unless told otherwise."""
        adapters = rows if adapters is None else adapters
        reading = (self.weights + adapters * self.adapter) * self.bytes_each / peaks.bytes
        arithmetic = 2 * (self.weights + (self.adapter if adapters else 0)) * rows / peaks.flops
        return rows / max(reading, arithmetic)


def measure(quick: bool, say: Say) -> Result:
    """What the other parts' figures are to be read beside."""
    peaks = Peaks.measured()
    say(f"{peaks.flops / 1e9:.0f} GFLOP/s, {peaks.bytes / 1e9:.0f} GB/s")
    raw = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "peaks": asdict(peaks),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "commit": commit(),
    }
    return Result({}, raw)


def _best(device: torch.device, work: Callable[[], object]) -> float:
    """Seconds of the quickest try."""
    seconds = []
    for _ in range(TRIES):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def _processor() -> str:
    """The model, and which of the instructions that matter it has."""
    try:
        said = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
    facts = {name.strip(): value.strip() for name, value in fields.items()}
    has = [
        flag
        for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
        if flag in facts.get("flags", "").split()
    ]
    return " ".join(
        [facts.get("model name", platform.machine()), f"({', '.join(has)})" if has else ""]
    ).strip()


def commit() -> str:
    """The commit, with a plus sign where more than docs, in which records lie, differs from it; empty outside git."""
    name = _git("rev-parse", "--short=12", "HEAD").stdout.strip()
    differs = _git("diff", "--quiet", "HEAD", "--", ".", ":!docs").returncode == 1
    return f"{name}+" if differs else name


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
