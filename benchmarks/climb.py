"""What PPO's settings are worth for their seconds, one varied at a time.

    python -m benchmarks.climb [--tokens N] [--tastes ...] [--seeds ...]

Knows the settings that are varied and a round up to the gate. Does not know the service or the gate: under every
setting the same thumbs are read anew and climbed, and the last adapter inside the KL budget is examined. `gain`: as in
the proof, on prompts that are never rated. One line of JSON a climb, in build/bench/climb.jsonl.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from benchmarks.offline import Desk
from benchmarks.tastes import USERS
from benchmarks.tuning import Person, changed, for_tuning
from benchmarks.workload import BUILD
from feedback.harm import Harm
from feedback.practice import practise, set_out
from feedback.round import Progress, Round, RoundConfig
from feedback.trainer import begin_learner

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
    Setting("64 answers an update", ("rollouts=64", "iterations=3")),
    Setting("KL target of 6 nats", ("kl_target=6.0",)),
    Setting("KL target of 24 nats", ("kl_target=24.0",)),
)


def main() -> int:
    words = argparse.ArgumentParser(prog="python -m benchmarks.climb", description=__doc__)
    words.add_argument("--tokens", type=int, default=64)
    given = for_tuning(words)
    desk = Desk(RoundConfig(answer_tokens=given.tokens))
    BUILD.mkdir(parents=True, exist_ok=True)
    harm = Harm()
    with (BUILD / "climb.jsonl").open("a") as file:
        for seed in given.seeds:
            for name in given.tastes:
                person = Person(desk, USERS[name], seed)
                before = fmean(person.exam(None))
                person.rate(THUMBS, None)
                for setting in SETTINGS:
                    climbed = climb(desk, person, setting, harm, before)
                    line = {"taste": name, "seed": seed, "tokens": given.tokens, "setting": setting.name}
                    print(json.dumps(line | climbed), file=file, flush=True)
                    print(
                        f"{name:18} {setting.name:28} gain {climbed['gain']:+.2f}  reward {climbed['reward']:+.2f}"
                        f"  KL {climbed['kl']:4.1f}  {climbed['seconds']:4.0f} s",
                        flush=True,
                    )
    return 0


def climb(desk: Desk, person: Person, setting: Setting, harm: Harm, before: float) -> dict[str, Any]:
    """One practising from the base model, and what the taste says of its end."""
    config = changed(desk.config, setting.changes)
    person.desk = Desk(config, desk.model)
    path = list[Progress]()
    round = Round(desk.model, config, harm, person.seed, person.examples, path.append, stop=lambda: None)
    base = desk.read(round.sampler.sample(round.prompts, None, round.sampling(1)))
    climbed = person.desk.reading(person.examples, base).climbed
    learner = begin_learner(round)
    for module, factors in learner.policy.factors.items():
        for factor in factors:  # those held still stay as they begin, at nothing
            factor.requires_grad_(re.search(setting.layers, module) is not None)
    began = time.monotonic()
    parent, first = set_out(round, learner, None, climbed, base)
    adapter = practise(round, learner, parent, climbed, base, first)
    seconds = time.monotonic() - began
    after = fmean(person.exam(adapter))
    rewards = [(p.metrics["reward"], p.metrics["kl"]) for p in path if "reward" in p.metrics]
    return {
        "gain": (after - before) / (1 - before), "before": before, "reward": round.metrics["reward"],
        "kl": round.metrics["kl"], "seconds": seconds, "path": rewards,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
