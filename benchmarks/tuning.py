"""Rounds of learning under other settings, in one process, for the tastes that tuning may look at: what each gains.

    python -m benchmarks.tuning reward.caution=1 ppo.learning_rate=1e-3 --tastes lists calm --thumbs 16 32

Knows the order of thumbs, round and exam, which counts small questions too; a coin ("nobody") takes part where named.
Does not know HTTP or Redis: a round is `run_round`, and what it made is examined whether the gate lets it pass or not,
so that the gate's verdict stands beside the truth. The next thumbs are for the answers of the newest version that
passed. One line of JSON a round, in build/bench/tuning.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from adapters.adapter import Adapter
from adapters.store import AdapterStore, Base
from benchmarks import capability
from benchmarks.offline import Desk, Rated
from benchmarks.tastes import NOBODY, TUNING, USERS, User
from benchmarks.teacher import EXAM_SEEDS, SEEDS, mark, slips
from benchmarks.trials import FULL, held_out_prompts, rated_prompts
from benchmarks.workload import BUILD
from feedback.harm import Harm
from feedback.round import Example, Progress, RoundConfig
from feedback.trainer import run_round

FOLDER = BUILD / "tuning"
EVERY, FIRST = 5, 4  # one thumb in five of a kind, from the fourth on, is the judge's, as in the service


class Person:
    """One user and seed: what they were answered, and their thumbs so far."""

    def __init__(self, desk: Desk, user: User, seed: int) -> None:
        self.desk, self.taste, self.seed = desk, user.taste, seed
        draws = random.Random(seed)
        self.prompts = draws.sample(rated_prompts(), len(rated_prompts()))
        self._slips = slips(draws, user.slips)
        self.examples: list[Example] = []

    def rate(self, count: int, adapter: Adapter | None) -> None:
        """A thumb for each of the next answers, one of ten a slip."""
        done = len(self.examples)
        asked = self.prompts[done : done + count]
        for prompt, answer in zip(
            asked, self.desk.answers(asked, self.seed * SEEDS + done, adapter), strict=True
        ):
            liked = self.taste.likes(answer.text) != next(self._slips)
            rating = 1 if liked else -1
            alike = 1 + sum(example.rating == rating for example in self.examples)
            thumb = Rated(prompt, answer.text, answer.ended, liked)
            self.examples.append(self.desk.example(len(self.examples), thumb, alike % EVERY == FIRST))

    def right(self, adapter: Adapter | None) -> int:
        """How many of the small questions are answered right."""
        asked = list(capability.QUESTIONS)
        answers = self.desk.answers(asked, self.seed * SEEDS, adapter)
        return sum(capability.right(q, a.text) for q, a in zip(asked, answers, strict=True))

    def exam(self, adapter: Adapter | None) -> list[float]:
        """The taste's scores of answers to prompts that are never rated."""
        asked = held_out_prompts(FULL)
        answers = self.desk.answers(asked, self.seed * SEEDS + EXAM_SEEDS, adapter)
        return [mark(self.taste, p, a.text, a.ended, 0).score for p, a in zip(asked, answers, strict=True)]


def learn(desk: Desk, user: User, seed: int, thumbs: Sequence[int], cold: bool) -> Iterator[dict[str, Any]]:
    """After so many thumbs a round, and what came of it."""
    harm = Harm()
    with tempfile.TemporaryDirectory() as folder:
        store = AdapterStore(Path(folder), Base(desk.model.name, desk.model.digest))
        store.create("person")
        person = Person(desk, user, seed)
        before, could = fmean(person.exam(None)), person.right(None)
        for count in thumbs:
            head = store.head("person")
            active = store.load("person", head.active) if head.active else None
            start = 0 if cold else head.active
            person.rate(count - len(person.examples), active)
            path = list[Progress]()
            made = run_round(
                desk.model, store, "person", person.examples, start=start, seed=seed * 1000 + count,
                config=desk.config, harm=harm, report=path.append, stop=lambda: None,
            )  # fmt: skip
            after = fmean(person.exam(made.adapter))
            store.publish("person", made, head.epoch)
            checks = {each["name"]: each["value"] for each in made.gate["checks"] if not each["passed"]}
            yield {
                "taste": user.taste.name, "seed": seed, "thumbs": count, "before": before, "after": after,
                "right": [could, person.right(made.adapter)],
                "gain": (after - before) / max(1e-9, 1 - before), "passed": made.gate["passed"], "failed": checks,
                "path": [
                    [round(p.metrics[name], 3) for name in ("reward", "kl", "answer_tokens")]
                    for p in path if "reward" in p.metrics
                ], **{k: v for k, v in made.metrics.items() if k != "beliefs"},
                "beliefs": [
                    (each["feature"], round(each["weight"], 2), round(each["certainty"], 1))
                    for each in sorted(made.metrics["beliefs"], key=lambda b: -abs(b["weight"]))[:6]
                ],
            }  # fmt: skip


def changed(config: RoundConfig, settings: Sequence[str]) -> RoundConfig:
    """The configuration with `name=value` or `part.name=value` put into it."""
    for setting in settings:
        path, _, text = setting.partition("=")
        part, _, name = path.rpartition(".")
        value = {name: ast.literal_eval(text)}
        config = replace(config, **({part: replace(getattr(config, part), **value)} if part else value))
    return config


def for_tuning(words: argparse.ArgumentParser, also: Sequence[User] = ()) -> argparse.Namespace:
    """What was asked for, with the tastes and seeds to run: by default all that tuning may look at. `also`: users who
    take part if they are named. Ends where another one is."""
    tuning, others = ([user.taste.name for user in users] for users in (TUNING, also))
    allowed = [*tuning, *others]
    words.add_argument(
        "--tastes", nargs="+", choices=allowed, default=tuning, metavar="taste", help=", ".join(allowed)
    )
    words.add_argument("--seeds", nargs="+", type=int, default=[1])
    return words.parse_args()


def main() -> int:
    words = argparse.ArgumentParser(prog="python -m benchmarks.tuning", description=__doc__)
    words.add_argument("settings", nargs="*", help="name=value of RoundConfig, or part.name=value")
    words.add_argument("--thumbs", nargs="+", type=int, default=[16, 32, 48])
    words.add_argument("--cold", action="store_true", help="every round begins at the base model")
    given = for_tuning(words, also=[NOBODY])
    desk = Desk(changed(RoundConfig(answer_tokens=FULL.tokens), given.settings))
    FOLDER.mkdir(parents=True, exist_ok=True)
    changes = [*given.settings, *(["cold"] if given.cold else [])]
    with (FOLDER / f"{'_'.join(changes) or 'as-it-is'}.jsonl").open("a") as file:
        for seed in given.seeds:
            for name in given.tastes:
                for made in learn(desk, USERS[name], seed, given.thumbs, given.cold):
                    print(json.dumps(made), file=file, flush=True)
                    print(
                        f"{name:18} seed {seed} {made['thumbs']:3} thumbs  gain {made['gain']:+.2f}"
                        f"  {'passed' if made['passed'] else 'HELD'}  reward {made['reward']:.2f}"
                        f"  KL {made['kl']:.1f}  right {made['right']}  {made['answer_tokens']:.0f} tokens"
                        f"  {made['seconds']:.0f} s  sure {made['certainty']:.2f}"
                        f"  {made['failed'] or ''} {made['path']}",
                        flush=True,
                    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
