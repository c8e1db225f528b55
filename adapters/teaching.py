"""Whole answers on the compiled kernels, scored with a gradient: the trainer's way through native.py.

Knows sequences, the factors of one adapter and PyTorch's autograd; knows nothing of losses, engines or users. It is
the engine's own pass, so that a sampled token has the log-probability here that it was drawn with, to 5e-6.

Shapes: B rows, T tokens, N answer tokens of all rows in a row's order, D hidden.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from adapters.arena import arena
from adapters.lora import Base, Trained
from adapters.native import Computed, Native, Tokens

if TYPE_CHECKING:
    from adapters.policy import Sequences


def answers(native: Native, sequences: Sequences, choice: Base | Trained) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probability and entropy (N,) in nats of every answer token, and the states (N, D) that it was chosen on.

    Gradients flow to the factors through the log-probabilities alone.
    """
    if isinstance(choice, Base):
        computed = _compute(native, sequences, None, 1, keep=False)
        return computed.logprobs, computed.entropy, computed.states
    factors = [factor for name in native.names for factor in choice.factors[name]]
    keep = torch.is_grad_enabled() and any(factor.requires_grad for factor in factors)
    out: tuple[Tensor, Tensor, Tensor] = _Answers.apply(native, sequences, choice.scale, keep, *factors)
    return out


def chosen_on(native: Native, sequences: Sequences) -> Tensor:
    """The base model's states (N, D) that every answer token was chosen on; nothing is scored."""
    return _compute(native, sequences, None, 1, keep=False, score=False).states


class _Answers(Function):
    @staticmethod
    def forward(
        ctx: Any, native: Native, sequences: Sequences, scale: float, keep: bool, *factors: Tensor
    ) -> tuple[Tensor, ...]:
        rank = factors[0].shape[0]
        slot = arena(1, native.adapter_size(rank))
        native.pack_factors([factor.detach().contiguous() for factor in factors], rank, scale, slot[0])
        computed = _compute(native, sequences, slot, rank, keep=keep)
        ctx.native, ctx.computed, ctx.scale = native, computed, scale
        ctx.shapes = [factor.shape for factor in factors]
        ctx.mark_non_differentiable(computed.entropy, computed.states)
        return computed.logprobs, computed.entropy, computed.states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weights: Tensor, _entropy: Tensor, _states: Tensor) -> tuple[Tensor | None, ...]:
        sizes = [shape.numel() for shape in ctx.shapes]
        grads = ctx.native.gradient(ctx.computed, weights, ctx.scale, sum(sizes))
        parts = zip(grads.split(sizes), ctx.shapes, strict=True)
        return (None, None, None, None, *(part.view(shape) for part, shape in parts))


def _compute(
    native: Native,
    sequences: Sequences,
    adapters: Tensor | None,
    rank: int,
    keep: bool,
    score: bool = True,
) -> Computed:
    """One pass over all rows, their common beginning once; an answer's last token chooses nothing, and is left out."""
    lengths = (sequences.starts + sequences.mask.sum(1) - 1).tolist()
    shared = _shared(sequences)
    places = [(0, at) for at in range(shared)]
    before = []  # of each row, how many tokens more than positions are before its own
    for number, length in enumerate(lengths):
        before.append(len(places) - shared)
        places += [(number, at) for at in range(shared, length)]
    rows, positions = torch.tensor(places).T
    row, position = sequences.at()
    cache, tables = native.pages(lengths)
    tokens = Tokens(
        ids=sequences.ids[rows, positions].tolist(),
        positions=positions.tolist(),
        sequences=rows.tolist(),
        slots=[int(adapters is not None)] * len(places),
        tables=tables,
        want=(torch.tensor(before)[row] + position - 1).tolist(),
        targets=sequences.ids[row, position].tolist() if score else None,
        shared=shared,
    )
    return native.compute(tokens, cache, adapters, rank, keep=keep)


def _shared(sequences: Sequences) -> int:
    """With how many tokens all rows begin alike, as a chat's system prompt; what the first token of an answer is
    chosen on stays each row's own. Nought for a row alone."""
    most = int(sequences.starts.min()) - 1
    beginnings = sequences.ids[:, :most]
    alike = (beginnings == beginnings[0]).all(0)
    return int(alike.cumprod(0).sum()) if len(beginnings) > 1 else 0
