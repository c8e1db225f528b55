"""The policy in training: the frozen model under one adapter whose factors have gradients.

Knows whole sequences (prompt and answer) and the model's full forward pass; knows nothing of rewards, losses or caches.
The same pass scores sequences under the base model (slot 0 of the serving engine), the reference of the KL term.

Shapes: B rows, T tokens, N answer tokens of all rows in a row's order, A the longest answer, D hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapters.adapter import Adapter
from adapters.lora import Base, Trained
from adapters.model import BaseModel
from adapters.teaching import answers, chosen_on


@dataclass(frozen=True)
class Sequences:
    """Prompts with their answers, padded on the right. `ids` (B, T); `mask` (B, A): where answers have tokens."""

    ids: Tensor
    starts: Tensor  # (B,) each answer's first position
    mask: Tensor

    @staticmethod
    def of(pairs: Sequence[tuple[list[int], list[int]]], device: torch.device) -> Sequences:
        """From (prompt, answer) token ids; an answer has at least one token."""
        width = max(len(prompt) + len(answer) for prompt, answer in pairs)
        ids = torch.zeros(len(pairs), width, dtype=torch.long)
        for row, (prompt, answer) in enumerate(pairs):
            ids[row, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        lengths = torch.tensor([len(answer) for _, answer in pairs])
        mask = torch.arange(int(lengths.max()))[None, :] < lengths[:, None]
        starts = torch.tensor([len(prompt) for prompt, _ in pairs])
        return Sequences(ids.to(device), starts.to(device), mask.to(device))

    def rows(self, index: Tensor) -> Sequences:
        """Some of the rows, with padding that none of them needs cut off; `mask` keeps its width."""
        lengths = self.mask[index].sum(1)
        width = int((self.starts[index] + lengths).max())
        return Sequences(self.ids[index, :width], self.starts[index], self.mask[index])

    def at(self) -> tuple[Tensor, Tensor]:
        """Row and position (N,) of every answer token."""
        row, offset = self.mask.nonzero(as_tuple=True)
        return row, self.starts[row] + offset


@dataclass(frozen=True)
class Scores:
    """Of answer tokens, (B, A), 0 off the mask: log-probability and entropy in nats; `states` (B, A, D) float32 is
    what each token was chosen on, without a gradient."""

    logprobs: Tensor
    entropy: Tensor
    states: Tensor

    @staticmethod
    def join(parts: Sequence[Scores]) -> Scores:
        """The rows of all parts, one after the other."""
        return Scores(
            torch.cat([p.logprobs for p in parts]),
            torch.cat([p.entropy for p in parts]),
            torch.cat([p.states for p in parts]),
        )


class Policy:
    """An adapter's factors as float32 parameters over the frozen model."""

    def __init__(self, model: BaseModel, adapter: Adapter) -> None:
        self.model = model
        self.shape = adapter.shape
        self.factors = {
            name: (
                a.detach().to(model.device).clone().requires_grad_(),
                b.detach().to(model.device).clone().requires_grad_(),
            )
            for name in model.layers
            for a, b in [adapter.weights[name]]
        }

    def parameters(self) -> list[Tensor]:
        """A and B of every module, in the model's order: an optimiser's state is kept by position."""
        return [factor for pair in self.factors.values() for factor in pair]

    def adapter(self) -> Adapter:
        """A copy of the factors as they are now."""
        return Adapter(self.shape, {name: (_copy(a), _copy(b)) for name, (a, b) in self.factors.items()})

    def load(self, adapter: Adapter) -> None:
        """Go back to an adapter of the same shape."""
        with torch.no_grad():
            for name, (a, b) in adapter.weights.items():
                self.factors[name][0].copy_(a)
                self.factors[name][1].copy_(b)

    def score(self, sequences: Sequences) -> Scores:
        """The answers under the policy; gradients flow to the factors through `logprobs` alone."""
        return score(self.model, sequences, Trained(self.factors, self.shape.scale))


def score(model: BaseModel, sequences: Sequences, choice: Base | Trained) -> Scores:
    """The answers of `sequences` under the base model or under factors in training."""
    if model.native is not None:
        logprobs, entropy, states = answers(model.native, sequences, choice)
        return Scores(
            _spread(logprobs, sequences.mask),
            _spread(entropy, sequences.mask),
            _spread(states, sequences.mask),
        )
    states = model.states(sequences.ids, choice)  # (B, T, D)
    row, position = sequences.at()
    # A token is chosen on the state before it; the output head is computed for answer tokens only.
    chosen_on = states[row, position - 1]  # (N, D)
    logprobs = torch.log_softmax(model.logits(chosen_on), dim=-1)  # (N, V)
    taken = logprobs.gather(1, sequences.ids[row, position][:, None])[:, 0]
    with torch.no_grad():
        entropy = -(logprobs.exp() * logprobs).sum(-1)
    return Scores(
        _spread(taken, sequences.mask),
        _spread(entropy, sequences.mask),
        _spread(chosen_on.detach().float(), sequences.mask),
    )


@torch.no_grad()
def score_base(model: BaseModel, sequences: Sequences) -> Scores:
    """The answers under the base model, without gradients."""
    return score(model, sequences, Base())


@torch.no_grad()
def mean_states(model: BaseModel, sequences: Sequences) -> Tensor:
    """(B, D) float32: the mean of the base model's states that an answer's tokens were chosen on."""
    if model.native is not None:
        states = _spread(chosen_on(model.native, sequences), sequences.mask)
        return states.sum(1) / sequences.mask.sum(1, keepdim=True)
    # Rows alone: in company, padding would change the rounding of a row's own sums.
    rows = [sequences.rows(torch.tensor([row])) for row in range(len(sequences.mask))]
    return torch.cat([_mean_state(model, row) for row in rows])


def _mean_state(model: BaseModel, row: Sequences) -> Tensor:
    _, position = row.at()
    return model.states(row.ids, Base())[:, position - 1].float().mean(dim=1)


def _spread(values: Tensor, mask: Tensor) -> Tensor:
    out = values.new_zeros(*mask.shape, *values.shape[1:])
    return out.masked_scatter(mask.view(*mask.shape, *[1] * (values.dim() - 1)).expand(out.shape), values)


def _copy(factor: Tensor) -> Tensor:
    return factor.detach().cpu().clone()
