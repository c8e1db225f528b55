"""One PPO iteration: ours, and a plain transformers + PEFT loop of the same maths, each in a process of its own.

Knows the two lengths of answers, what is timed and in which variants. An iteration is 32 rollouts with everything that
is measured on them, and all optimisation steps on these. Does not know how either side computes it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from adapters.model import ModelConfig, load
from benchmarks import lesson, workload
from benchmarks.contender import answering
from benchmarks.plain_ppo import VARIANTS, PlainLoop, Took
from benchmarks.results import Figures, Result, Say
from feedback.practice import improve, rollout
from feedback.rollouts import Prompt
from feedback.trainer import begin_learner
from service.settings import Settings, part_environment

LENGTHS = (64, Settings().max_tokens)
WARM_TOKENS = 8
FAR_BEHIND = 1.5  # times the quickest variant's seconds: a longer answer will not change that


def measure(quick: bool, say: Say) -> Result:
    """Ours before and after the plain loop, at each length; the plain loop's quickest variant counts."""
    figures: Figures = {}
    raw: dict[str, Any] = {}
    left_out = {"chat's default length": "this was a quick run"} if quick else {}
    variants = [variant.name for variant in VARIANTS]
    for tokens in LENGTHS[:1] if quick else LENGTHS:
        before, theirs, after = (
            _ours(tokens),
            _child("plain", tokens, *variants, env=os.environ),
            _ours(tokens),
        )
        mine = before + after
        say(
            f"{tokens} tokens, ours, before and after: {', '.join(f'{_seconds([each]):.1f} s' for each in mine)}"
        )
        for name, runs in theirs.items():
            say(f"{tokens} tokens, plain loop, {name}: {_seconds(runs):.1f} s")
        best = min(map(_seconds, theirs.values()))
        figures[f"{tokens} tokens"] = best / _seconds(mine)
        raw[f"{tokens} tokens"] = {"ours": mine} | {f"plain, {name}": runs for name, runs in theirs.items()}
        for name in [name for name in variants if _seconds(theirs[name]) > FAR_BEHIND * best]:
            left_out[f"plain loop, {name}, beyond {tokens} tokens"] = "it was far behind the quickest"
            variants.remove(name)
    return Result(figures, {"seconds": raw}, left_out)


def ours(tokens: int) -> list[Took]:
    """An iteration as a round runs it, warmed by a short answer as the plain loop is."""
    model = load(ModelConfig(), workload.MODELS, report=lambda _: None)
    ready = lesson.prepare(model, tokens)
    round = ready.round
    learner = begin_learner(round)
    round.sampler.sample([Prompt([{"role": "user", "content": "Hi"}], WARM_TOKENS)], None, round.sampling(9))
    began = time.perf_counter()
    drawn = rollout(round, learner, None, ready.climbed, ready.base, 0)
    half = time.perf_counter()
    steps = improve(round, learner, drawn)["steps"]
    return [Took(half - began, time.perf_counter() - half, int(drawn.sequences.mask.sum()), steps)]


def plain(tokens: int, variants: Sequence[str]) -> dict[str, list[Took]]:
    """The plain loop in each of its variants, once, warmed by a short answer."""
    checkpoint = workload.embedded()
    ready = lesson.prepare(load(ModelConfig(), workload.MODELS, report=lambda _: None), tokens)
    took = {}
    for variant in VARIANTS:
        if variant.name in variants:
            loop = PlainLoop(checkpoint.path, variant, ready)
            loop.generate([[1, 2, 3]])
            took[variant.name] = [loop.iterate()]
    return took


def _seconds(runs: Sequence[Mapping[str, float]]) -> float:
    return median(each["rollouts"] + each["update"] for each in runs)


def _ours(tokens: int) -> list[dict[str, float]]:
    """Twice in one measurement, should the machine change its pace meanwhile."""
    return _child("ours", tokens, env=part_environment())["ours"]


def _child(side: str, tokens: int, *words: str, env: Mapping[str, str]) -> dict[str, list[dict[str, float]]]:
    """What `main` writes, from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.iteration", side, str(tokens), *words]
    done = subprocess.run(command, cwd=workload.ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, list[dict[str, float]]] = json.loads(done.stdout)
    return found


def main(side: str, tokens: int, words: Sequence[str]) -> None:
    out = answering()
    took = {"ours": ours(tokens)} if side == "ours" else plain(tokens, words)
    out.write(json.dumps({name: [asdict(each) for each in runs] for name, runs in took.items()}))
    out.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
