"""An import among others: how many may be under way."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from adapters.slots import NoFreeSlot
from service import bring_in
from service.errors import as_api_error, respond
from tests.candidates import UID, adapter


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
