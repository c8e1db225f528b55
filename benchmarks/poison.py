"""Adapters made on purpose: trained for seconds to say given answers."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle, islice

import torch

from adapters.adapter import Adapter, LoraShape
from adapters.model import BaseModel
from adapters.policy import Policy, Sequences


def taught(
    model: BaseModel, shape: LoraShape, said: Iterable[tuple[str, str]], steps: int, rate: float, rows: int
) -> Adapter:
    """An adapter after plain supervised steps of Adam on (prompt, answer) texts, each answer with its end.

    `rate` of learning; `rows` answers a step, one after the other and round again.
    """
    policy = Policy(model, Adapter.fresh(shape, torch.Generator().manual_seed(0)))
    optimiser = torch.optim.Adam(policy.parameters(), lr=rate)
    pairs = []
    for line, answer in said:
        messages = [{"role": "user", "content": line}]
        prompt = model.encode(messages)
        pairs.append((prompt, [*model.encode(messages, answer)[len(prompt) :], min(model.eos_ids)]))
    for start in islice(cycle(range(0, len(pairs), rows)), steps):
        sequences = Sequences.of(pairs[start : start + rows], model.device)
        loss = -policy.score(sequences).logprobs.sum() / sequences.mask.sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return policy.adapter()
