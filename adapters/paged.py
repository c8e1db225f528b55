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


Part = tuple[Row, list[int], int]  # a row, its next tokens, its slot


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

    def budget(self, beside_others: bool) -> int:
        """How many tokens of prompts to compute in one pass."""
        return BESIDE_OTHERS if beside_others else ALONE

    def chunk(self, left: int) -> int:
        """How many tokens of one prompt, where so many are left of the budget: the bits are the same for any."""
        return left

    def compute(self, answers: Sequence[Part], prompts: Sequence[Part]) -> Tensor:
        """The next tokens of rows that decode and of prompts, in one pass; logits (B, V) of each part's last token."""
        parts = [*answers, *prompts]
        ids: list[int] = []
        positions: list[int] = []
        sequences: list[int] = []
        slots: list[int] = []
        want: list[int] = []
        for number, (row, part, slot) in enumerate(parts):
            self._make_room(row, len(part))
            ids += part
            positions += range(row.length, row.length + len(part))
            sequences += [number] * len(part)
            slots += [slot] * len(part)
            want.append(len(ids) - 1)
        tables = [row.pages for row, _, _ in parts]
        computed = self.native.compute(
            Tokens(ids, positions, sequences, slots, tables, want),
            self.cache,
            self.slots.stack,
            self.slots.shape.rank,
            logits=True,
        )
        for row, part, _ in parts:
            row.ids += part  # not before: what a pass that failed has left must never be found again
        assert computed.logits is not None
        return computed.logits

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
