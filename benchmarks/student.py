"""A simulated person who teaches a service of their own: chats, 32 thumbs, and a watch on the round that follows.

Knows the calls that a person makes and one stated taste. Does not know what is measured meanwhile.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from benchmarks import workload
from service.person import Person
from service.tastes import TASTES

TASTE = TASTES["second-person"]
THUMBS = 32
HELD_OUT = slice(56, 96)  # of the demo's prompts: never rated
FIRST_SEED, EXAM_SEED = 1000, 9000
LOOK_SECONDS, PATIENCE_SECONDS = 0.25, 60.0
ENDED = ("published", "held", "failed")


class NoRound(Exception):
    """The thumbs began no round."""


@dataclass
class Watched:
    """One round: how it ended, and the seconds from the last thumb at which each of its steps was first seen.

    `path`: what it told of itself after each batch of rollouts: reward in log-odds, and KL in nats an answer."""

    state: str = "waiting"
    seconds: float = 0.0
    steps: dict[int, float] = field(default_factory=dict)
    path: list[tuple[float, float]] = field(default_factory=list)
    reason: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)

    def until(self, step: int) -> float:
        """Seconds from the round's first step to this one; the step after the last is the end."""
        ends = {**self.steps, max(self.steps) + 1: self.seconds}
        return ends[step] - min(self.steps.values())


def rate(person: Person, tokens: int) -> None:
    """Chats, and a thumb for each by the taste, none by mistake."""
    prompts = workload.lines()[:THUMBS]
    seeds = list(range(FIRST_SEED, FIRST_SEED + THUMBS))
    replies = person.ask(prompts, seeds, tokens, done=lambda: None)
    person.rate([(reply.message_id, TASTE.likes(reply.answer)) for reply in replies])


def watch(person: Person, steps: int | None = None) -> Watched:
    """The round that the thumbs begin by themselves, seen to its end or up to a step. Raises `NoRound`."""
    began, seen = time.perf_counter(), Watched()
    while (round := person.adapter()["round"]) is None:
        if time.perf_counter() > began + PATIENCE_SECONDS:
            raise NoRound(f"no round began within {PATIENCE_SECONDS:.0f} s of the last thumb")
        time.sleep(LOOK_SECONDS)
    while seen.state not in ENDED:
        round = person.round(round["id"])
        seen.seconds = time.perf_counter() - began
        seen.state, seen.reason, seen.metrics = round["state"], round["reason"], round["metrics"]
        if seen.state == "running":
            seen.steps.setdefault(round["step"], seen.seconds)
            place = (round["metrics"].get("reward"), round["metrics"].get("kl"))
            if None not in place and place not in seen.path:
                seen.path.append(place)
            if steps is not None and round["step"] >= steps:
                break
        time.sleep(LOOK_SECONDS)
    return seen


def learn(person: Person) -> list[Watched]:
    """Rounds until every thumb is learnt from, or one failed. One that a rollback overtook is asked for again."""
    rounds: list[Watched] = []
    while person.adapter()["feedback"]["queued"]:
        person.ask_for_round()
        rounds.append(watch(person))
        if rounds[-1].state == "failed" and rounds[-1].reason != "overtaken":
            break
    return rounds


def examine(person: Person, tokens: int) -> list[float]:
    """What the taste says of the answers to prompts that were never rated, 0 to 1 each."""
    prompts = workload.lines()[HELD_OUT]
    seeds = list(range(EXAM_SEED, EXAM_SEED + len(prompts)))
    return [TASTE.score(reply.answer) for reply in person.ask(prompts, seeds, tokens, done=lambda: None)]
