"""What PPO's settings are worth for their seconds, one varied at a time.

    python -m benchmarks.climb [--tokens N] [--tastes ...] [--seeds ...]

Knows the settings that are varied and a round up to the gate. Does not know the service or the gate: from the same
thumbs one reward model is climbed under every setting, and the last adapter inside the KL budget is examined. `gain`:
as in the proof, on prompts that are never rated. One line of JSON a climb, in build/bench/climb.jsonl.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from adapters.adapter import Adapter
from benchmarks.offline import Desk
from benchmarks.tastes import TUNING, USERS
from benchmarks.tuning import Person, changed
from benchmarks.workload import BUILD
from feedback import ppo
from feedback.credit import critic_inputs
from feedback.harm import Harm
from feedback.learner import Learner
from feedback.practice import practise
from feedback.rollouts import features, rated
from feedback.round import Progress, Round, RoundConfig
from feedback.trainer import read_taste

THUMBS = 24
ALL, ATTENTION, MLP, UPPER = ".", "attn", "mlp", r"layers\.(1[5-9]|2\d)\."  # of thirty layers


@dataclass(frozen=True)
class Setting:
    """`layers`: which modules have factors that move, as a pattern of their paths."""

    name: str
    changes: tuple[str, ...] = ()
    layers: str = ALL


SETTINGS = (
    Setting("as it is"),
    Setting("rank 2", ("rank=2", "alpha=4.0")),
    Setting("rank 4", ("rank=4", "alpha=8.0")),
    Setting("rank 16", ("rank=16", "alpha=32.0")),
    Setting("attention alone", layers=ATTENTION),
    Setting("MLP alone", layers=MLP),
    Setting("upper half of the layers", layers=UPPER),
    Setting("half the learning rate", ("ppo.learning_rate=7.5e-4",)),
    Setting("two epochs", ("ppo.epochs=2", "iterations=5")),
    Setting("16 answers an update", ("rollouts=16", "iterations=14")),
    Setting("64 answers an update", ("rollouts=64", "rows=32", "iterations=3")),
)


def main() -> int:
    words = argparse.ArgumentParser(prog="python -m benchmarks.climb", description=__doc__)
    words.add_argument("--tokens", type=int, default=64)
    words.add_argument("--tastes", nargs="+", default=[user.taste.name for user in TUNING])
    words.add_argument("--seeds", nargs="+", type=int, default=[1])
    given = words.parse_args()
    if wrong := set(given.tastes) - {user.taste.name for user in TUNING}:
        words.error(f"not for tuning: {', '.join(sorted(wrong))}")
    desk = Desk(RoundConfig(answer_tokens=given.tokens))
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "climb.jsonl").open("a") as file:
        for seed in given.seeds:
            for name in given.tastes:
                person = Person(desk, USERS[name].taste, seed)
                before = fmean(person.exam(None))
                person.rate(THUMBS, None)
                for setting in SETTINGS:
                    climbed = climb(desk, person, setting, before)
                    line = {"taste": name, "seed": seed, "tokens": given.tokens, "setting": setting.name}
                    print(json.dumps(line | climbed), file=file, flush=True)
                    print(
                        f"{name:18} {setting.name:28} gain {climbed['gain']:+.2f}  reward {climbed['reward']:+.2f}"
                        f"  KL {climbed['kl']:4.1f}  {climbed['seconds']:4.0f} s",
                        flush=True,
                    )
    return 0


def climb(desk: Desk, person: Person, setting: Setting, before: float) -> dict[str, Any]:
    """One practising from the base model, and what the taste says of its end."""
    config = changed(desk.config, setting.changes)
    person.desk = Desk(config, desk.model)
    path = list[Progress]()
    round = Round(desk.model, config, Harm(), person.seed, person.examples, path.append, stop=lambda: None)
    base = features(desk.model, round.sampler.sample(round.prompts, None, round.sampling(1)))
    read = features(desk.model, [rated(desk.model, e.messages, e.answer, e.ended) for e in person.examples])
    climbed = read_taste(desk.model, person.examples, read, base, config, round.stop).climbed
    learner = _learner(round, lambda module: re.search(setting.layers, module) is not None)
    began = time.monotonic()
    adapter = practise(round, learner, None, climbed, base)
    seconds = time.monotonic() - began
    after = fmean(person.exam(adapter))
    rewards = [(p.metrics["reward"], p.metrics["kl"]) for p in path if "reward" in p.metrics]
    return {
        "gain": (after - before) / (1 - before), "before": before, "reward": round.metrics["reward"],
        "kl": round.metrics["kl"], "seconds": seconds, "path": rewards,
    }  # fmt: skip


def _learner(round: Round, moves: Callable[[str], bool]) -> Learner:
    """A fresh one, with only some modules' factors in motion: the others stay as they begin, at nothing."""
    config = round.config
    controller = ppo.KLController(config.kl_coef, config.kl_target, config.kl_horizon)
    adapter = Adapter.fresh(round.shape, round.generator)
    learner = Learner(
        round.model, adapter, critic_inputs(config.reward), config.ppo, controller, round.generator
    )
    for module, factors in learner.policy.factors.items():
        for factor in factors:
            factor.requires_grad_(moves(module))
    return learner


if __name__ == "__main__":
    sys.exit(main())
