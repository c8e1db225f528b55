"""What a part of the benchmarks found, and where it is kept: build/bench/<part>.json, there as soon as it is measured.

Knows files and JSON. Does not know what any figure means, nor what it should be (targets.py).
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters import disk
from benchmarks.workload import BUILD

Figures = dict[str, float]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """`figures`: what targets are compared with, by name. `raw`: everything behind them. `left_out`: what was not
    measured, and why."""

    figures: Figures
    raw: dict[str, Any] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def keep(part: str, result: Result, *, seconds: float, quick: bool) -> Path:
    """Write one part's result; its file."""
    file = BUILD / f"{part}.json"
    record = {
        "part": part,
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "seconds": round(seconds, 1),
        "quick": quick,
        **dataclasses.asdict(result),
    }
    write(file, record)
    return file


def kept(parts: Sequence[str]) -> dict[str, Any]:
    """The records of those parts that were measured, in their order."""
    files = {part: BUILD / f"{part}.json" for part in parts}
    return {part: json.loads(file.read_text()) for part, file in files.items() if file.exists()}


def write(file: Path, record: dict[str, Any]) -> None:
    """As JSON, four digits a number being more than any of them is worth; its folder is made where it is missing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    disk.replace(file, (json.dumps(_rounded(record), indent=1, ensure_ascii=False) + "\n").encode())


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    return value
