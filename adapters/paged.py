"""Rows on the compiled kernels: each with its pages, all in one pass.

Knows rows, pages and slots; knows nothing of requests or why a row ends. Prompts and answers are computed by the same
pass, and a token's bits depend on its own past alone, so a prompt may be computed in chunks of any length, and a
remembered beginning equals one computed afresh.

Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from adapters.arena import arena
from adapters.native import PAGE, Native, Tokens
from adapters.pages import Pages
from adapters.sampling import Drawn, Sampling
from adapters.slots import Owner, Slots

# Tokens of a prompt in one pass: while others decode, about as many as take as long as their own step
ALONE, BESIDE_OTHERS = 512, 64
REMEMBERED = 8  # one page in so many may hold a past that no row uses


@dataclass(eq=False)
class Row:
    """One sequence: the tokens that are in its pages."""

    owner: Owner | None
    ids: list[int]
    pages: list[int]

    @property
    def length(self) -> int:
        return len(self.ids)


class Paged:
    """All rows of an engine. `rows` sequences of together at most `tokens` tokens live at once."""

    def __init__(self, native: Native, slots: Slots, rows: int, tokens: int) -> None:
        self.native = native
        self.slots = slots
        count = -(-max(tokens, int(native.model.positions)) // PAGE) + rows
        self.cache = arena(count, native.page_size)
        self.pages = Pages(count, count // REMEMBERED, self._wipe)

    def place(self, owner: Owner | None, prompt: list[int]) -> Row:
        """A new row, with as much of its prompt as is remembered."""
        pages = self.pages.find(owner, prompt)
        return Row(owner, prompt[: len(pages) * PAGE], pages)

    def remove(self, row: Row) -> None:
        """The row ends; what it holds is remembered for its owner."""
        self.pages.leave(row.owner, row.ids, row.pages)

    def forget(self, uid: str) -> None:
        """Nothing of a user's past is found again, or left in memory once no row uses it."""
        self.pages.forget(uid)

    def chunk(self, beside_others: bool) -> int:
        """How many tokens of a prompt to compute in one pass."""
        return BESIDE_OTHERS if beside_others else ALONE

    def prefill(self, row: Row, part: list[int], slot: int) -> Tensor:
        """The next tokens of a prompt; the last one's logits (1, V)."""
        start, count = row.length, len(part)
        self._make_room(row, count)
        logits = self._compute(
            Tokens(
                part, list(range(start, start + count)), [0] * count, [slot] * count, [row.pages], [count - 1]
            )
        )
        row.ids += part  # not before: what a pass that failed has left must never be found again
        return logits

    def decode(self, rows: Sequence[Row], ids: list[int], slots: list[int]) -> Tensor:
        """One more token of every row; logits (B, V)."""
        for row in rows:
            self._make_room(row, 1)
        positions, every = [row.length for row in rows], list(range(len(rows)))
        logits = self._compute(Tokens(ids, positions, every, slots, [row.pages for row in rows], every))
        for row, token in zip(rows, ids, strict=True):
            row.ids.append(token)
        return logits

    def draw(
        self, logits: Tensor, samplings: list[Sampling], draws: list[float], seen: list[Tensor]
    ) -> Drawn:
        """See sampling.draw."""
        return self.native.draw(logits, samplings, draws, seen)

    def _make_room(self, row: Row, count: int) -> None:
        while len(row.pages) * PAGE < row.length + count:
            row.pages.append(self.pages.take())

    def _wipe(self, page: int) -> None:
        """Nobody's past stays. And numbers not yet written count nought times, but nought times NaN would be NaN."""
        self.cache[page].zero_()

    def _compute(self, tokens: Tokens) -> Tensor:
        computed = self.native.compute(
            tokens, self.cache, self.slots.stack, self.slots.shape.rank, logits=True
        )
        assert computed.logits is not None
        return computed.logits
