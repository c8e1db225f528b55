"""`python -m benchmarks [part ...] [--quick]`: measures the parts one after the other, each in a process of its own.

Knows the parts, their order, and what becomes of their results. Does not know what any of them measures.

    all      every part, then the report (what no argument means)
    report   the table and the picture once more, from what is kept in build/bench
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import time

from benchmarks import results
from benchmarks.workload import ROOT

PARTS = (
    "machine",
    "decode",
    "turns",
    "memory",
    "iteration",
    "promptness",
    "company",
    "ratings",
    "chats",
    "cuda",
)


def main() -> int:
    words = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measures the parts one after the other."
    )
    words.add_argument("parts", nargs="*", choices=[*PARTS, "all", "report"], default="all", metavar="part",
                       help=", ".join([*PARTS, "report", "all"]))  # fmt: skip
    words.add_argument("--quick", action="store_true", help="fewer repeats, shorter runs: rough figures")
    given = words.parse_args()
    parts = [given.parts] if isinstance(given.parts, str) else given.parts
    if parts == ["all"]:
        return _all(given.quick)
    for part in parts:
        if part == "report":
            if not results.kept(["machine"]):
                _measure("machine", given.quick)
            _report()
        else:
            _measure(part, given.quick)
    return 0


def _all(quick: bool) -> int:
    """Every part in a process of its own, so that none finds what another left in memory; 1 if one failed."""
    failed = []
    for number, part in enumerate(PARTS):
        print(f"\n{part}, part {number + 1} of {len(PARTS)}", flush=True)
        command = [sys.executable, "-m", "benchmarks", part, *(["--quick"] if quick else [])]
        if code := subprocess.run(command, cwd=ROOT).returncode:
            failed.append(part)
            why = {"all of it": f"it failed in this run, with exit code {code}"}
            results.keep(part, results.Result({}, {}, why), seconds=0.0, quick=quick)
    _report()
    if failed:
        print(f"These parts failed: {', '.join(failed)}")
    return 1 if failed else 0


def _measure(part: str, quick: bool) -> None:
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {text}", flush=True)

    result = importlib.import_module(f"benchmarks.{part}").measure(quick, say)
    file = results.keep(part, result, seconds=time.monotonic() - began, quick=quick)
    for name, figure in result.figures.items():
        say(f"{name}: {figure:.3g}")
    for what, why in result.left_out.items():
        say(f"left out: {what}: {why}")
    say(f"kept in {file.relative_to(ROOT)}")


def _report() -> None:
    from benchmarks import report

    for file in report.make(PARTS):
        print(f"written: {file.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
