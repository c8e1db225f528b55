"""An import among others: how many may be under way, and what is asked of it."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from adapters.engine import Request
from adapters.model import ModelConfig, load
from adapters.sampling import Sampling
from adapters.slots import NoFreeSlot
from service import bring_in, generation
from service.errors import as_api_error, respond
from service.metrics import Metrics
from service.presence import Presence
from service.trial import tried
from tests.candidates import UID, adapter
from tests.engines import QUESTIONS, answers, engine_of
from tests.tiny import tiny_model


class Generation:
    """An engine in which these owners are pinned."""

    def __init__(self, *owners):
        self.engine = SimpleNamespace(slots=SimpleNamespace(pins=dict.fromkeys(owners, 1)))

    async def run(self, call):
        return call(self.engine)


def test_imports_leave_a_slot_to_chats_and_the_caller_is_told_to_come_back():
    parts: Any = SimpleNamespace(
        generation=Generation(("ann", -7), ("bob", -8)), settings=SimpleNamespace(slots=3)
    )
    with pytest.raises(NoFreeSlot) as refused:
        asyncio.run(bring_in._examine(parts, UID, adapter(1)))
    error = as_api_error(refused.value)
    assert error is not None
    answer = respond(error)
    assert answer.status_code == 429 and answer.headers["Retry-After"]


def test_answers_on_trial_are_the_tokens_that_were_drawn(tmp_path):
    """What is read from the text again may be other tokens, and has no end."""
    model = load(ModelConfig(str(tiny_model(tmp_path)), device="cpu"), tmp_path, lambda _: None)

    async def trial():
        made = generation.Generation(engine_of(model), model.decode, 8, Metrics(), lambda _: None)
        made.start()
        parts: Any = SimpleNamespace(model=model, generation=made, presence=Presence())
        try:
            return await tried(parts, UID, None, QUESTIONS, 60, Sampling(seed=3))
        finally:
            await made.close()

    found = asyncio.run(trial())
    asked = [
        Request(f"r{number}", prompt, None, 60, Sampling(seed=3 + number))
        for number, prompt in enumerate(found.prompts)
    ]
    assert found.answers == [answers(engine_of(model), [each])[each.id] for each in asked]
    assert [answer[-1] in model.eos_ids for answer in found.answers] == found.side.ended and any(
        found.side.ended
    )
