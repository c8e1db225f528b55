"""From the 32nd thumb to a published version that is better, over HTTP, on a service of its own.

Knows the two lengths of answers, when the clock runs, and how "better" is told: by the simulated person's own taste, on
prompts that were never rated. Does not know how a round learns.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from benchmarks import student
from benchmarks.iteration import LENGTHS
from benchmarks.results import Figures, Result, Say
from benchmarks.serving import served
from service.course import Estimate


def measure(quick: bool, say: Say) -> Result:
    figures: Figures = {}
    raw: dict[str, Any] = {}
    left_out = {"chat's default length": "this was a quick run"} if quick else {}
    for tokens in LENGTHS[:1] if quick else LENGTHS:
        with served(f"promptness-{tokens}", max_tokens=tokens) as service, service.person() as person:
            before = student.examine(person, tokens)
            student.rate(person, tokens)
            say(f"{tokens} tokens: {student.THUMBS} thumbs are given")
            seen = student.watch(person)
            after = student.examine(person, tokens)
        gain = Estimate.of_difference(before, after)
        how = f"{seen.state} after {seen.seconds:.0f} s {seen.reason or ''}".strip()
        say(f"{tokens} tokens: {how}; the score rose by {gain.mean:+.2f}")
        figures[f"{tokens} tokens, gain"] = gain.low
        if seen.state == "published":
            figures[f"{tokens} tokens, minutes"] = seen.seconds / 60
        else:
            left_out[f"{tokens} tokens, minutes"] = f"no version was published: {how}"
        raw[f"{tokens} tokens"] = {
            "round": asdict(seen),
            "score before": asdict(Estimate.of(before)),
            "score after": asdict(Estimate.of(after)),
            "gain": asdict(gain),
        }
    return Result(figures, raw, left_out)
