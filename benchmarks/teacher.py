"""A simulated person with a hidden taste: chats, gives thumbs, one in ten a slip, waits for rounds, sets exams.

Knows one taste, the prompts and their seeds, and the calls that a person makes. Does not know which experiment it is
in. Of the taste the service sees nothing but thumbs. The same prompt has the same seed in every exam.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks import student
from benchmarks.trials import Form, held_out_prompts, rated_prompts
from service.person import Person, Reply
from service.tastes import Taste

TEN = 10  # thumbs of which one is a slip
SEEDS = 100_000  # a teacher's seeds for answers begin at so many times its own
EXAM_SEEDS = 50_000  # and those of its exams so much later


@dataclass(frozen=True)
class Marked:
    """One answer, with what the taste says of it. `ended`: by itself, not cut off."""

    prompt: str
    answer: str
    ended: bool
    version: int
    score: float
    accepted: bool


@dataclass(frozen=True)
class Thumb(Marked):
    """A thumb as it was given. `flipped`: against the taste."""

    up: bool
    flipped: bool


class Teacher:
    """`taste` may be changed on the way. `flipped`: how many thumbs of ten are slips. Raises what `Person` and
    `student.watch` raise."""

    def __init__(self, person: Person, taste: Taste, seed: int, form: Form, flipped: int = 1) -> None:
        self.person, self.taste = person, taste
        self.thumbs: list[Thumb] = []
        self.rounds: list[student.Watched] = []
        self._form, self._first_seed = form, seed * SEEDS
        draws = random.Random(seed)
        self.prompts = draws.sample(rated_prompts(), len(rated_prompts()))
        self._slips = slips(draws, flipped)

    def teach(self, count: int) -> list[Thumb]:
        """Chats on the next prompts, a thumb for each answer, and the rounds that follow; the thumbs."""
        given = self.chat(count)
        self.learn()
        return given

    def chat(self, count: int) -> list[Thumb]:
        """The next prompts and their thumbs, without waiting for anybody to learn from them."""
        done = len(self.thumbs)
        replies = self._ask(self.prompts[done : done + count], self._first_seed + done)
        thumbs = [self._thumb(reply) for reply in replies]
        self.person.rate([(reply.message_id, thumb.up) for reply, thumb in zip(replies, thumbs, strict=True)])
        self.thumbs += thumbs
        return thumbs

    def exam(self) -> list[Marked]:
        """Answers to the held-out prompts, by whatever version answers now."""
        return self.look(held_out_prompts(self._form), EXAM_SEEDS)

    def look(self, prompts: list[str], later: int = 0) -> list[Marked]:
        """Answers that get no thumbs; with `later` 0 drawn with the seeds of the prompts' own chats."""
        return [self._mark(reply) for reply in self._ask(prompts, self._first_seed + later)]

    def record(self) -> dict[str, Any]:
        """Thumbs and rounds, as JSON."""
        return {
            "thumbs": [asdict(thumb) for thumb in self.thumbs],
            "rounds": [asdict(round) for round in self.rounds],
        }

    def learn(self) -> None:
        """See `student.learn`."""
        self.rounds += student.learn(self.person)

    def _ask(self, prompts: list[str], first_seed: int) -> list[Reply]:
        seeds = list(range(first_seed, first_seed + len(prompts)))
        return self.person.ask(prompts, seeds, self._form.tokens, done=lambda: None)

    def _thumb(self, reply: Reply) -> Thumb:
        flipped = next(self._slips)
        up = self.taste.likes(reply.answer) != flipped
        return Thumb(**asdict(self._mark(reply)), up=up, flipped=flipped)

    def _mark(self, reply: Reply) -> Marked:
        return mark(self.taste, reply.prompt, reply.answer, reply.finish_reason == "stop", reply.version)


def mark(taste: Taste, prompt: str, answer: str, ended: bool, version: int) -> Marked:
    """What a taste says of an answer."""
    return Marked(prompt, answer, ended, version, taste.score(answer), taste.accepted(answer))


def slips(draws: random.Random, flipped: int) -> Iterator[bool]:
    """Of every ten thumbs just so many are slips, at places drawn by chance."""
    while True:
        places = draws.sample(range(TEN), flipped)
        yield from (place in places for place in range(TEN))
