"""Rows of any decoder that transformers can run: prompts one by one, and one padded batch a shelf.

Knows rows, shelves and which adapters a pass uses; knows nothing of requests or why a row ends. This is the reference
that paged.py is tested against, and what runs where the kernels do not: another family of models, or CUDA.

Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from adapters import lora, sampling
from adapters.cache import Cache, Decode, Prefill, Row
from adapters.model import BaseModel
from adapters.sampling import Drawn, Sampling
from adapters.slots import Owner, Slots

CHUNK = 256  # prompt tokens computed between two tokens of the other rows

Part = tuple[Row, list[int], int]  # a row, its next tokens, its slot


class Shelved:
    """All rows of an engine, at most `rows` at once."""

    def __init__(self, model: BaseModel, slots: Slots, rows: int) -> None:
        self.model = model
        self.slots = slots
        self.cache = Cache(rows)
        self.choice: tuple[tuple[int, ...], int, lora.Base | lora.Mixed] = ((), 0, lora.Base())

    def place(self, _owner: Owner | None, prompt: list[int]) -> Row:
        """A new row; nothing of its prompt is known yet."""
        return self.cache.place(len(prompt))

    def remove(self, row: Row) -> None:
        """The row ends, and its past with it."""
        self.cache.remove(row)

    def forget(self, uid: str) -> None:
        """Nobody's past outlives the row."""

    def budget(self, beside_others: bool) -> int:
        """How many tokens of prompts to compute between two tokens of the other rows."""
        return CHUNK

    def chunk(self, left: int) -> int:
        """Chunks begin at multiples of one number whatever else waits, so that the rounding is the prompt's own."""
        return CHUNK

    def compute(self, answers: Sequence[Part], prompts: Sequence[Part]) -> Tensor:
        """The next tokens of rows that decode and of prompts; logits (B, V) of each part's last token."""
        logits = [self._decode(answers)] if answers else []
        return torch.cat([*logits, *(self._prefill(*part) for part in prompts)])

    def _prefill(self, row: Row, part: list[int], slot: int) -> Tensor:
        ids = torch.tensor([part], device=self.model.device)
        positions = torch.arange(row.length, row.length + len(part), device=self.model.device)[None]
        states = self.model.states(ids, lora.Single(slot), positions, Prefill(self.cache, row))
        row.length += len(part)
        return self.model.logits(states[:, -1])

    def _decode(self, answers: Sequence[Part]) -> Tensor:
        for row, _, _ in answers:
            self.cache.grow(row)
        past = Decode(self.cache, self.model.device)
        given = {row: (part[0], slot, place) for place, (row, part, slot) in enumerate(answers)}
        lines = [given.get(row, (0, 0, -1)) if row is not None else (0, 0, -1) for row in past.rows]
        tokens = torch.tensor([[token] for token, _, _ in lines], device=self.model.device)
        choice = self._choose(tuple(slot for _, slot, _ in lines))
        states = self.model.states(tokens, choice, torch.cat(past.at)[:, None], past)[:, 0]
        for row, _, _ in answers:
            row.length += 1
        order = {place: line for line, (_, _, place) in enumerate(lines) if place >= 0}
        return self.model.logits(states)[[order[place] for place in range(len(answers))]]

    def draw(
        self, logits: Tensor, samplings: list[Sampling], draws: list[float], seen: list[Tensor]
    ) -> Drawn:
        """See sampling.draw."""
        return sampling.draw(logits, samplings, draws, torch.stack(seen))

    def _choose(self, slots: tuple[int, ...]) -> lora.Base | lora.Mixed:
        # A slot that was filled anew has the same number and other weights: `writes` tells.
        if (slots, self.slots.writes) != self.choice[:2]:
            rank = self.slots.shape.rank
            mixed = lora.Mixed(list(slots), rank, self.model.device) if any(slots) else lora.Base()
            self.choice = (slots, self.slots.writes, mixed)
        return self.choice[2]
