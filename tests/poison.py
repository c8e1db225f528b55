"""Adapters made on purpose: trained for seconds to say given answers."""

from itertools import cycle, islice

import torch

from adapters.adapter import Adapter
from adapters.policy import Policy, Sequences


def taught(model, said, steps, rate=1e-2, rows=8):
    """An adapter after supervised steps on (prompt, answer) texts, each answer with its end."""
    policy = Policy(model, Adapter.fresh(model.lora_shape(8, 16.0), torch.Generator().manual_seed(0)))
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
