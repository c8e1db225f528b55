"""One chat: from its plan, through the engine, into the message log, and only then to the caller.

Knows the order of things: the answers are in the log before their first byte leaves and whole in it before their last
does, and one that is cut off is kept as far as it was sent. Does not know HTTP or what an answer looks like to the
caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from feedback.connection import StoreUnavailable
from service.answers import Answers, Piece
from service.parts import Parts
from service.plan import Plan

WRITE_SECONDS = 10.0  # how long a caller waits for the log before being told that it is away


class Chat:
    """The answers of one plan. `start`, iterate, and `end` whatever happened. The caller is inside `Presence`."""

    def __init__(self, parts: Parts, plan: Plan) -> None:
        self._parts = parts
        self.plan = plan
        self.completion_tokens = [0] * len(plan.asks)
        self._sent = [""] * len(plan.asks)
        self._begun: set[int] = set()  # choices that are, or may be, in the log
        self._ended: set[int] = set()  # of these, those whose end is written or being written
        self._answers: Answers | None = None

    async def start(self) -> None:
        """Returns when the first text is there and the messages are in the log. Raises what stands in the way."""
        self._parts.presence.check(self.plan.uid)
        self._answers = self._parts.generation.submit(self.plan.asks)
        self._pieces = aiter(self._answers)
        self._first = await anext(self._pieces)
        if self._first.error:
            raise self._first.error
        begun = asyncio.create_task(asyncio.to_thread(self._begin))
        try:
            await asyncio.shield(begun)
        except asyncio.CancelledError:
            await asyncio.wait({begun})  # it is made all the same, and `end` must come after it
            raise

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """Pieces to send on; an answer's last one comes when the answer is whole in the log."""
        yield await self._take(self._first)
        self._sent[self._first.index] += self._first.text
        async for piece in self._pieces:
            yield await self._take(piece)
            self._sent[piece.index] += piece.text

    def end(self) -> None:
        """Cancels what still runs and keeps it as far as it was sent."""
        if self._answers is None:
            return
        self._parts.generation.cancel(self._answers)
        for index in sorted(self._begun - self._ended):
            self._write(index, self._sent[index] if self.plan.streamed else "", "cancelled")

    def _begin(self) -> None:
        for index, message in enumerate(self.plan.messages):
            self._begun.add(index)
            self._parts.messages.begin(self.plan.uid, message)

    async def _take(self, piece: Piece) -> Piece:
        self.completion_tokens[piece.index] = max(self.completion_tokens[piece.index], piece.tokens)
        if piece.finish:
            written = self._write(piece.index, self._sent[piece.index] + piece.text, piece.finish)
            done, _ = await asyncio.wait({written}, timeout=WRITE_SECONDS)
            if not done:
                raise StoreUnavailable("the answer could not be put into the message log in time")
            written.result()
        return piece

    def _write(self, index: int, answer: str, reason: str) -> asyncio.Task[None]:
        self._ended.add(index)
        self._parts.metrics.answers.labels(self.plan.model, reason).inc()
        return self._parts.endings.write(self.plan.uid, self.plan.messages[index].id, answer, reason)
