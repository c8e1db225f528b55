"""Two answers to one prompt, a good one and a bad one, and how far a model sets the one above the other.

Knows texts, and log-probabilities that somebody else has computed; knows nothing of where pairs come from, or of what a
margin is worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from adapters.model import BaseModel
from adapters.policy import Sequences


@dataclass(frozen=True)
class Pair:
    """A prompt with an answer that is wanted of every assistant, and one that is not."""

    prompt: str
    good: str
    bad: str


def sequences_of(model: BaseModel, pairs: Sequence[Pair]) -> Sequences:
    """Both answers of each pair, the good one first: 2N rows."""
    rows = []
    for pair in pairs:
        messages = [{"role": "user", "content": pair.prompt}]
        prompt = model.encode(messages)
        rows += [(prompt, model.encode(messages, answer)[len(prompt) :]) for answer in (pair.good, pair.bad)]
    return Sequences.of(rows, model.device)


def margins(logprobs: Tensor, sequences: Sequences) -> Tensor:
    """(2N, A), 0 off the mask → (N,) nats a token: m = log p(good) / its tokens − log p(bad) / its tokens.

    The mean of a token, as in SimPO's reward (Meng et al. 2024, eq. 4): by sums, whoever likes short answers would seem
    to like the shorter one of every pair.
    """
    means = logprobs.sum(1) / sequences.mask.sum(1)
    good, bad = means.view(-1, 2).T
    return good - bad
