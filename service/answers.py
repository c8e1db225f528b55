"""The answers to one chat on their way from the engine's thread to whoever reads them.

Knows what is asked and what comes of it. Lives on the event loop; does not know the engine, HTTP or the message log.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal

from adapters.engine import Request

Finish = Literal["stop", "length", "cancelled", "error"]


@dataclass(frozen=True)
class Ask:
    """One answer wanted: what the engine needs, whose it is, and the strings that end it."""

    request: Request
    uid: str
    stops: Sequence[str] = ()


@dataclass(frozen=True)
class Piece:
    """Some more of answer `index`: text (may be empty), the tokens made so far, and how it ended if it has. `ids`: with
    an end that is neither an error nor a cancellation all of its tokens, the end token among them."""

    index: int
    text: str
    tokens: int
    finish: Finish | None = None
    error: Exception | None = None
    ids: Sequence[int] = ()


class Answers:
    """The answers to one user's chat, on the event loop: iterate to get pieces until every one has ended."""

    def __init__(self, asks: Sequence[Ask]) -> None:
        self.asks = asks
        self.uid = asks[0].uid
        self.live = set(range(len(asks)))
        self._pieces: asyncio.Queue[Piece] = asyncio.Queue()
        self._open = len(asks)  # answers whose end has not been read

    def put(self, piece: Piece) -> None:
        """Called by `Generation`; pieces of an answer that has ended are dropped."""
        if piece.index in self.live:
            if piece.finish:
                self.live.remove(piece.index)
            self._pieces.put_nowait(piece)

    async def __aiter__(self) -> AsyncIterator[Piece]:
        while self._open:
            piece = await self._pieces.get()
            self._open -= piece.finish is not None
            yield piece
