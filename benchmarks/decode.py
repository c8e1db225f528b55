"""Tokens a second while many adapters answer at once: our engine, PEFT's mixed batch, and vLLM, in turns.

Knows who is measured against whom, and what the clock holds. Each engine is warm and in a process of its own. In its
turn it answers one set of prompts with 1 token a row and another with 64, then waits while the others do the same.

    whole        64 tokens a row over the time of the whole answers, the prompts' pass included
    decode only  63 tokens a row over the time by which 64 tokens took longer than 1
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from benchmarks import vllm_setup, workload
from benchmarks.contender import Contender, ContenderFailed, Job
from benchmarks.machine import Floor, Peaks
from benchmarks.ours import endless_model
from benchmarks.results import Figures, Result, Say
from service.settings import part_environment

TOKENS = 64
WARM_TOKENS = 8
SHAPES = (32, 8, 1)  # rows, each with an adapter of its own
MOST = max(SHAPES)
OURS, PEFT, VLLM = "ours", "PEFT", "vLLM"
BARE = "without adapter: "


@dataclass(frozen=True)
class Speed:
    """Tokens a second of one turn."""

    whole: float
    decode: float

    @classmethod
    def of(cls, rows: int, first: float, all: float) -> Speed:
        """From the seconds in which each row got 1 token, and 64."""
        return cls(rows * TOKENS / all, rows * (TOKENS - 1) / (all - first))


@dataclass
class Entry:
    """One engine in one shape, and what was measured of it."""

    name: str
    adapters: int
    contender: Contender
    speeds: list[Speed] = field(default_factory=list)

    def turn(self, sets: Sequence[list[list[int]]]) -> None:
        """Two sets of prompts, one for each length. Raises `ContenderFailed`."""
        first, all = (
            self.contender.run(Job(prompts, tokens, self.adapters))
            for prompts, tokens in zip(sets, (1, TOKENS), strict=True)
        )
        rows = len(sets[0])
        assert all.tokens == rows * TOKENS, f"{self.name} made {all.tokens} tokens"
        self.speeds.append(Speed.of(rows, first.seconds, all.seconds))

    def median(self) -> Speed:
        """Of all turns."""
        return Speed(median(s.whole for s in self.speeds), median(s.decode for s in self.speeds))


def measure(quick: bool, say: Say) -> Result:
    model = endless_model()
    shape = model.lora_shape(workload.RANK, workload.ALPHA)
    folders = [str(folder) for folder in workload.adapter_folders(shape, MOST)]
    prompts = workload.Prompts(model)
    left_out = _set_up_vllm()
    speeds: dict[int, dict[str, Speed]] = {}
    raw: dict[str, Any] = {}
    for rows in SHAPES:
        repeats = 1 if quick else 2 if rows == MOST else 3
        entries = race(_entries(rows, folders, VLLM not in left_out), rows, prompts, repeats, left_out, say)
        speeds[rows] = {entry.name: entry.median() for entry in entries}
        raw[f"{rows} rows"] = found(entries)
    weights = sum(weight.numel() for weight in model.network.parameters())
    lowest = Floor(weights, shape.numbers)
    floors = {f"{rows} rows": lowest.tokens_a_second(rows, Peaks.measured()) for rows in SHAPES}
    return Result(ratios(speeds), {"tokens a second": raw, "floor, tokens a second": floors}, left_out)


def ratios(speeds: Mapping[int, Mapping[str, Speed]]) -> Figures:
    """Ours against each peer of the same shape; a peer without adapter is compared with ours with adapters."""
    figures = {}
    for rows, found in speeds.items():
        for name, speed in found.items():
            if name != OURS:
                figures[f"{rows} rows against {name}"] = found[OURS].decode / speed.decode
                figures[f"{rows} rows against {name}, whole"] = found[OURS].whole / speed.whole
    return figures


def _set_up_vllm() -> dict[str, str]:
    """What is left out, and why."""
    try:
        vllm_setup.install()
    except vllm_setup.CannotInstall as error:
        return {VLLM: f"vLLM cannot be installed here: {error}"}
    return {}


def race(
    entries: Iterable[Entry],
    rows: int,
    prompts: workload.Prompts,
    repeats: int,
    left_out: dict[str, str],
    say: Say,
) -> list[Entry]:
    """All engines of one shape in turns, after a short answer to warm them; one that fails is left out, and said."""
    say(f"{rows} rows: starting the engines")
    with ExitStack() as stack:
        running = []
        for entry in entries:
            stack.enter_context(entry.contender)
            running.append(entry)
        for number in range(repeats + 1):
            sets = [prompts.next(rows) for _ in range(2)]  # the same for all
            for entry in list(running):
                try:
                    if number:
                        entry.turn(sets)
                    else:
                        entry.contender.run(Job(sets[0], WARM_TOKENS, entry.adapters))
                except ContenderFailed as error:
                    left_out[f"{entry.name}, {rows} rows"] = str(error)
                    say(str(error))
                    running.remove(entry)
            say(f"{rows} rows: turn {number} of {repeats}" if number else f"{rows} rows: all are warm")
    return running


def found(entries: Iterable[Entry]) -> dict[str, Any]:
    """Medians and turns of each, for the record."""
    return {
        entry.name: asdict(entry.median()) | {"turns": [asdict(speed) for speed in entry.speeds]}
        for entry in entries
    }


def _entries(rows: int, folders: list[str], vllm: bool) -> Iterator[Entry]:
    """Who is measured with so many rows: with the most of them, also without adapters."""
    ours = process("ours", "benchmarks.ours", env=part_environment())
    yield Entry(OURS, rows, ours)
    yield Entry(PEFT, rows, process(f"peft-{rows}", "benchmarks.peft_peer", str(rows)))
    if vllm:
        yield Entry(VLLM, rows, _vllm(f"vllm-{rows}", folders[:rows]))
    if rows == MOST:
        yield Entry(BARE + OURS, 0, ours)
        yield Entry(BARE + "transformers", 0, process("transformers", "benchmarks.peft_peer", "0"))
        if vllm:
            yield Entry(BARE + VLLM, 0, _vllm("vllm-0", []))


def process(log: str, module: str, *words: str, env: Mapping[str, str] | None = None) -> Contender:
    command = [sys.executable, "-m", module, *words]
    return Contender(log, command, workload.ROOT, workload.BUILD / "logs" / f"{log}.log", env)


def _vllm(log: str, folders: list[str]) -> Contender:
    """With all cores, and Intel's OpenMP loaded first: by default it leaves one core idle."""
    command = [str(vllm_setup.PYTHON), "-m", "benchmarks.vllm_peer", workload.embedded().path, *folders]
    env = os.environ | {
        "VLLM_CPU_OMP_THREADS_BIND": f"0-{(os.cpu_count() or 1) - 1}",
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; 32 rows of 128 tokens need a tenth
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "LD_PRELOAD": str(vllm_setup.openmp() or ""),
    }
    return Contender(log, command, workload.ROOT, workload.BUILD / "logs" / f"{log}.log", env)
