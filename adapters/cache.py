"""The keys and values of every row's past, on shelves of equal length.

Knows tensors and lengths; knows nothing of tokens, users or adapters. A shelf holds rows whose past is padded to
one length, so that the numbers of a row depend on its own length alone and never on its neighbours': the sums
inside attention are grouped by the padded length. A row that outgrows its shelf moves to the next one.
Rows of a shelf lie side by side from 0 (a leaving row's place is taken by the last one), so that attention reads
them in place.

Shapes: B rows, H query heads, G key heads, T tokens, L a shelf's length, D head dimension.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from adapters.attention import visible

STEP = 128
# A product of a single row takes other kernels, with other rounding, than a product of two or more.
LEAST_ROWS = 2


@dataclass(eq=False)
class Row:
    """One sequence's place: its shelf's length, its index there, and how many tokens it holds."""

    shelf: int
    index: int = 0
    length: int = 0


@dataclass(eq=False)
class Shelf:
    """Rows of one padded length; a layer's tensors appear when the layer first writes."""

    length: int
    rows: list[Row] = field(default_factory=list)
    keys: dict[int, Tensor] = field(default_factory=dict)  # layer → (B, G, L, D)
    values: dict[int, Tensor] = field(default_factory=dict)

    @property
    def height(self) -> int:
        """How many rows a decode step computes here, the idle one that keeps a row company included."""
        return max(len(self.rows), LEAST_ROWS) if self.rows else 0


class Cache:
    """All shelves. `rows` bounds how many sequences live at once; memory is taken as shelves fill, and given back."""

    def __init__(self, rows: int) -> None:
        self.capacity = max(rows, LEAST_ROWS)
        self.shelves: dict[int, Shelf] = {}

    def place(self, tokens: int) -> Row:
        """A new row on the shelf that holds `tokens` and one more."""
        row = Row(self._shelf_length(tokens + 1))
        self._append(row)
        return row

    def remove(self, row: Row) -> None:
        """Free a row; the last row of its shelf moves into its place."""
        shelf = self.shelves[row.shelf]
        last = shelf.rows.pop()
        if last is not row:
            if last.length:  # a row that has written nothing yet may lie beyond what the tensors hold
                for tensor in (*shelf.keys.values(), *shelf.values.values()):
                    tensor[row.index, :, : last.length] = tensor[last.index, :, : last.length]
            last.index = row.index
            shelf.rows[row.index] = last
        if not shelf.rows:  # memory follows the rows, and nobody's past outlives them
            del self.shelves[row.shelf]

    def grow(self, row: Row) -> None:
        """Move a full row to the next shelf. Where memory is short for that, nothing has moved."""
        if row.length < row.shelf:
            return
        old, length = self.shelves[row.shelf], self._shelf_length(row.length + 1)
        new = self.shelves.get(length) or Shelf(length)
        place, height = len(new.rows), max(len(new.rows) + 1, LEAST_ROWS)
        for layer in old.keys:
            for before, after in ((old.keys, new.keys), (old.values, new.values)):
                target = self._tensor(after, layer, length, height, before[layer])
                target[place, :, : row.length] = before[layer][row.index, :, : row.length]
        self.remove(row)
        self.shelves[length] = new
        row.shelf = length
        self._append(row)

    def store(self, shelf: Shelf, layer: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """A layer's key and value tensors (rows or more, G, L, D) of a shelf; zeros where nothing was written."""
        keys = self._tensor(shelf.keys, layer, shelf.length, shelf.height, like)
        return keys, self._tensor(shelf.values, layer, shelf.length, shelf.height, like)

    def _append(self, row: Row) -> None:
        shelf = self.shelves.setdefault(row.shelf, Shelf(row.shelf))
        assert len(shelf.rows) < self.capacity, "the engine admits no more rows than the cache holds"
        row.index = len(shelf.rows)
        shelf.rows.append(row)

    def _shelf_length(self, tokens: int) -> int:
        coarse = STEP if tokens <= 8 * STEP else 4 * STEP
        return -(-tokens // coarse) * coarse

    def _tensor(self, tensors: dict[int, Tensor], layer: int, length: int, rows: int, like: Tensor) -> Tensor:
        held = tensors.get(layer)
        if held is None or len(held) < rows:
            room = min(self.capacity, max(2 * rows, LEAST_ROWS))
            tensors[layer] = torch.zeros((room, like.shape[1], length, like.shape[3]), device=like.device)
            if held is not None:
                tensors[layer][: len(held)] = held
        return tensors[layer]


class Prefill:
    """The past of one row while a chunk of its prompt is computed (B = 1)."""

    def __init__(self, cache: Cache, row: Row) -> None:
        self.cache = cache
        self.row = row
        self.masks: dict[int | None, Tensor | None] = {}

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        """See attention.Past."""
        start, end = self.row.length, self.row.length + query.shape[2]
        keys, values = self.cache.store(self.cache.shelves[self.row.shelf], layer, key)
        keys[self.row.index, :, start:end] = key[0]
        values[self.row.index, :, start:end] = value[0]
        at = slice(self.row.index, self.row.index + 1)
        return scaled_dot_product_attention(
            query.float(),
            keys[at, :, :end],
            values[at, :, :end],
            attn_mask=self._mask(query.shape[2], end, window, query.device),
            scale=scaling,
            enable_gqa=True,
        )

    def _mask(self, queries: int, keys: int, window: int | None, device: torch.device) -> Tensor | None:
        if window not in self.masks:
            self.masks[window] = visible(queries, keys, window, device)
        return self.masks[window]


class Decode:
    """The pasts of all rows while each computes its next token (T = 1), shelf by shelf."""

    def __init__(self, cache: Cache, device: torch.device) -> None:
        self.cache = cache
        self.device = device
        self.shelves = [shelf for _, shelf in sorted(cache.shelves.items()) if shelf.rows]
        self.rows: list[Row | None] = []  # the batch's order; None keeps a lonely row company
        self.at: list[Tensor] = []  # a shelf: where each row writes, (B,)
        for shelf in self.shelves:
            company: list[Row | None] = [None] * (shelf.height - len(shelf.rows))
            self.rows += shelf.rows + company
            lengths = [row.length for row in shelf.rows] + [0] * len(company)
            self.at.append(torch.tensor(lengths, device=device))
        self.masks: dict[tuple[int, int | None], Tensor] = {}

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        """See attention.Past."""
        heights = [shelf.height for shelf in self.shelves]
        parts = zip(self.shelves, self.at, *(t.split(heights) for t in (query, key, value)), strict=True)
        out = []
        for number, (shelf, at, q, k, v) in enumerate(parts):
            keys, values = self.cache.store(shelf, layer, k)
            rows = torch.arange(shelf.height, device=self.device)
            keys[rows, :, at] = k[:, :, 0].float()
            values[rows, :, at] = v[:, :, 0].float()
            past = keys[: shelf.height], values[: shelf.height]
            out.append(attend_one(q.float() * scaling, *past, self._mask(number, window)))
        return torch.cat(out)

    def _mask(self, number: int, window: int | None) -> Tensor:
        if (number, window) not in self.masks:
            key = torch.arange(self.shelves[number].length, device=self.device)[None, :]
            at = self.at[number][:, None]
            seen = key <= at
            if window is not None:
                seen &= key > at - window
            bias = torch.zeros(seen.shape, device=self.device).masked_fill(~seen, float("-inf"))
            self.masks[number, window] = bias[:, None, None, :]
        return self.masks[number, window]


def attend_one(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """One scaled query (B, H, 1, D) a row over keys and values (B, G, L, D) with an additive mask (B, 1, 1, L).

    Plain products: the fused kernel shares its work out by the number of rows, and so its rounding would, too.
    """
    b, heads, _, d = query.shape
    grouped = query.view(b, keys.shape[1], heads // keys.shape[1], d)  # (B, G, H/G, D)
    weights = torch.softmax(grouped @ keys.transpose(2, 3) + mask, dim=-1)
    return (weights @ values).view(b, heads, 1, d)
