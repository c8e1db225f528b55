"""An adapter on trial among chats: how many answers are asked for at once, and what becomes of a refusal."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from adapters.sampling import Sampling
from service import trial
from service.answers import Answers, Piece
from service.generation import Busy, ShareTaken
from service.presence import Closed, Presence

LINES = [f"line {number}" for number in range(10)]


class Generation:
    """Refuses as it is told, and then gives every answer at once: the line that it answers, in capitals."""

    def __init__(self, places, *refusals):
        self.places, self.refusals = places, list(refusals)
        self.taken = []

    def submit(self, asks):
        if self.refusals:
            raise self.refusals.pop(0)
        self.taken.append(len(asks))
        answers = Answers(asks)
        for index, ask in enumerate(asks):
            answers.put(Piece(index, bytes(ask.request.prompt).decode().upper(), 1, "stop"))
        return answers


class Model:
    context, eos_ids = 100, (0,)

    def encode(self, messages, answer=""):
        return list((messages[0]["content"] + answer).encode())


def parts(generation):
    made: Any = SimpleNamespace(generation=generation, model=Model(), presence=Presence())
    return made


def tried(parts):
    answers = asyncio.run(trial.tried(parts, "ann", None, LINES, 10, Sampling(seed=1)))
    assert answers.side.texts == [line.upper() for line in LINES]


@pytest.mark.parametrize(("places", "taken"), [(96, [8, 2]), (7, [3, 3, 3, 1]), (1, [1] * 10)])
def test_as_many_places_as_it_takes_are_left_to_chats(places, taken):
    generation = Generation(places)
    tried(parts(generation))
    assert generation.taken == taken


def test_places_that_are_taken_are_waited_for_and_no_answer_is_given_up(monkeypatch):
    monkeypatch.setattr(trial, "AGAIN_SECONDS", 0)
    generation = Generation(96, Busy("full"), ShareTaken("a chat of theirs"), Busy("full"))
    tried(parts(generation))
    assert generation.taken == [8, 2]


def test_a_deletion_ends_the_wait(monkeypatch):
    monkeypatch.setattr(trial, "AGAIN_SECONDS", 0.01)
    crowded = parts(Generation(96, *[Busy("full")] * 1000))

    async def wait():
        waiting = asyncio.create_task(trial.tried(crowded, "ann", None, LINES, 10, Sampling(seed=1)))
        await asyncio.sleep(0.05)
        crowded.presence.close("ann")
        await asyncio.wait_for(waiting, 5)

    with pytest.raises(Closed):
        asyncio.run(wait())
