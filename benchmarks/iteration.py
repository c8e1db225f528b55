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
from collections.abc import Mapping
from dataclasses import asdict
from statistics import median
from typing import Any

from adapters.adapter import Adapter
from adapters.model import ModelConfig, load
from benchmarks import lesson, workload
from benchmarks.contender import answering
from benchmarks.plain_ppo import VARIANTS, PlainLoop, Took
from benchmarks.results import Result, Say
from feedback.learner import Learner
from feedback.ppo import KLController
from feedback.practice import critic_inputs, improve, rollout
from service.settings import Settings, part_environment

LENGTHS = (64, Settings().max_tokens)
OURS_REPEATS = 3


def measure(quick: bool, say: Say) -> Result:
    """Ours and the plain loop take turns by length of answer; the plain loop's quickest variant counts."""
    lengths = LENGTHS[:1] if quick else LENGTHS
    figures, raw = {}, {}
    for tokens in lengths:
        ours = _child("ours", tokens, 1 if quick else OURS_REPEATS, part_environment())["ours"]
        mine = median(each["rollouts"] + each["update"] for each in ours)
        say(f"{tokens} tokens, ours: {mine:.1f} s")
        plain = _child("plain", tokens, 1, os.environ)
        best = min(_seconds(runs) for runs in plain.values())
        for name, runs in plain.items():
            say(f"{tokens} tokens, plain loop in {name}: {_seconds(runs):.1f} s")
        figures[f"{tokens} tokens"] = best / mine
        raw[f"{tokens} tokens"] = {"ours": ours, **{f"plain, {name}": runs for name, runs in plain.items()}}
    left_out = {} if len(lengths) == len(LENGTHS) else {"chat's default length": "this was a quick run"}
    return Result(figures, {"seconds": raw}, left_out)


def ours(tokens: int, repeats: int) -> list[Took]:
    """Iterations as a round runs them, one after the other."""
    model = load(ModelConfig(), workload.MODELS, report=lambda _: None)
    ready = lesson.prepare(model, tokens)
    round, config = ready.round, ready.round.config
    learner = Learner(
        model, Adapter.fresh(round.shape, round.generator), critic_inputs(config.reward), config.ppo,
        KLController(config.kl_coef, config.kl_target, config.kl_horizon), round.generator,
    )  # fmt: skip
    took = []
    for number in range(repeats):
        began = time.perf_counter()
        drawn = rollout(round, learner, None, ready.climbed, ready.base, number)
        half = time.perf_counter()
        steps = improve(round, learner, drawn)["steps"]
        took.append(Took(half - began, time.perf_counter() - half, int(drawn.sequences.mask.sum()), steps))
    return took


def plain(tokens: int) -> dict[str, list[Took]]:
    """The plain loop in each of its variants, once, warmed by a short answer."""
    checkpoint = workload.embedded()
    ready = lesson.prepare(load(ModelConfig(), workload.MODELS, report=lambda _: None), tokens)
    took = {}
    for variant in VARIANTS:
        loop = PlainLoop(checkpoint.path, variant, ready)
        loop.generate([[1, 2, 3]])
        took[variant.name] = [loop.iterate()]
    return took


def _seconds(runs: list[dict[str, float]]) -> float:
    return median(each["rollouts"] + each["update"] for each in runs)


def _child(side: str, tokens: int, repeats: int, env: Mapping[str, str]) -> dict[str, list[dict[str, float]]]:
    """What `main` prints, from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.iteration", side, str(tokens), str(repeats)]
    done = subprocess.run(command, cwd=workload.ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, list[dict[str, float]]] = json.loads(done.stdout)
    return found


def main(side: str, tokens: int, repeats: int) -> None:
    out = answering()
    took: dict[str, Any] = {"ours": ours(tokens, repeats)} if side == "ours" else plain(tokens)
    out.write(json.dumps({name: [asdict(each) for each in runs] for name, runs in took.items()}))
    out.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
