"""Engines with strong random adapters, and requests whose every property follows from a number."""

from pathlib import Path

import torch

from adapters.adapter import Adapter
from adapters.engine import Engine, Request
from adapters.errors import UnknownVersion
from adapters.sampling import Sampling
from adapters.slots import Slots

QUESTIONS = ["Hi", "What is a fork?", "Tell me of the sea. " * 9, "Why?", "How do I boil an egg? " * 4]


def adapter_of(model, uid, version, size=0.3):
    """An adapter strong enough to change every answer, the same for the same user and version."""
    shape = model.lora_shape(rank=8, alpha=16.0)
    generator = torch.Generator().manual_seed(sum(map(ord, uid)) * 100 + version)
    fresh = Adapter.fresh(shape, generator)
    weights = {
        n: (a, torch.randn(b.shape, generator=generator) * size) for n, (a, b) in fresh.weights.items()
    }
    return Adapter(shape, weights)


def engine_of(model, slots=40, rows=32, loads=None):
    def load_adapter(uid, version):
        if version > 9:
            raise UnknownVersion(f"there is no version {version}")
        if loads is not None:
            loads.append((uid, version))
        return adapter_of(model, uid, version)

    return Engine(model, Slots(model, model.lora_shape(8, 16.0), load_adapter, slots), rows)


def request(model, number, owner="own", max_tokens=40, **sampling):
    """Request `number`: its prompt, user, seed and way of drawing follow from its number; every fifth is the base's."""
    if owner == "own":
        owner = None if number % 5 == 4 else (f"user{number}", 1)
    how = Sampling(
        **({"temperature": 0.8, "top_p": 0.95, "repetition_penalty": 1.1, "seed": number} | sampling)
    )
    prompt = model.encode([{"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}])
    return Request(f"r{number}", prompt, owner, max_tokens + 7 * (number % 3), how)


def answers(engine, requests, join_every=0):
    """Token ids by request; with `join_every`, one request joins after that many tokens of the others."""
    out = {r.id: [] for r in requests}
    waiting = list(requests)
    if not join_every:
        for r in waiting:
            engine.add(r)
        waiting = []
    steps = 0
    while engine.busy or waiting:
        if waiting and steps % join_every == 0:
            engine.add(waiting.pop(0))
        for token in engine.step():
            assert token.error is None
            out[token.request].append(token.id)
        steps += 1
    return out


def resident() -> int:
    """This process's bytes in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
