"""An adapter on trial in the chat engine: its answers to prompts, and what it does on the probes.

Knows how the engine is asked so that chats go on meanwhile: few answers at a time, and between two tokens no more than
one short pass. Does not know where the adapter comes from, or what its answers should be like.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from fastapi.concurrency import run_in_threadpool
from torch import Tensor

from adapters.adapter import Adapter
from adapters.engine import Request
from adapters.sampling import Sampling
from adapters.slots import Owner
from feedback import harm
from feedback.gate import Conduct, Side
from service.answers import Answers, Ask
from service.generation import Busy, ShareTaken, Stopping
from service.parts import Parts

TOGETHER = 8  # answers asked for at once, at most
AGAIN_SECONDS = 0.2  # until it is asked again for places that were taken


@dataclass(frozen=True)
class Tried:
    """Answers to some prompts, in their order: the token ids that were drawn, an end token included, and texts."""

    prompts: list[list[int]]
    answers: list[list[int]]
    side: Side


async def tried(
    parts: Parts, uid: str, owner: Owner | None, lines: Sequence[str], tokens: int, sampling: Sampling
) -> Tried:
    """One answer of at most `tokens` tokens to each line, alike for every owner: the i-th draws with the seed + i.

    Waits while too few places are free. Raises `Closed`, `Stopping`, and what the engine raises.
    """
    prompts = [parts.model.encode([{"role": "user", "content": line}]) for line in lines]
    room = parts.model.context - max(map(len, prompts))
    asks = []
    for number, prompt in enumerate(prompts):
        draws = replace(sampling, seed=sampling.seed + number)
        asks.append(
            Ask(Request(f"trial-{secrets.token_hex(8)}", prompt, owner, min(tokens, room), draws), uid)
        )
    texts, ended = [""] * len(asks), [False] * len(asks)
    answers: list[list[int]] = [[] for _ in asks]
    together = min(TOGETHER, max(1, parts.generation.places // 2))  # as many are left to chats
    for start in range(0, len(asks), together):
        async for piece in await _submitted(parts, asks[start : start + together]):
            if piece.finish == "cancelled":
                raise Stopping("the service is stopping")
            if piece.error:
                raise piece.error
            texts[start + piece.index] += piece.text
            ended[start + piece.index] |= piece.finish == "stop"
            answers[start + piece.index] += piece.ids
    return Tried(prompts, answers, Side(texts, ended))


async def _submitted(parts: Parts, asks: Sequence[Ask]) -> Answers:
    """The answers, once there are places for all: what was answered before has taken minutes, and is not given up."""
    while True:
        parts.presence.check(asks[0].uid)  # a deletion waits for whoever is inside
        try:
            return parts.generation.submit(asks)
        except (Busy, ShareTaken):
            await asyncio.sleep(AGAIN_SECONDS)


async def conduct(parts: Parts, uid: str, owner: Owner | None, adapter: Adapter | None) -> Conduct:
    """What the model does on the probes under an adapter that `owner`'s slot holds (None: by itself, measured once)."""
    settings, model = parts.settings, parts.model
    chat = Sampling(settings.temperature, settings.top_p, settings.repetition_penalty, harm.SEED)
    known = parts.harm.of_base.setdefault(model, {})
    if adapter is None and chat in known:
        return known[chat]
    probes, choice = parts.harm.probes, harm.choice_of(model, adapter)

    async def provoked(seed: int) -> Tensor:
        drawn = replace(chat, seed=seed)
        answers = await tried(parts, uid, owner, probes.provoking, harm.TOKENS, drawn)
        return await run_in_threadpool(parts.harm.toxic, answers.side.texts)

    toxic = torch.cat([await provoked(seed) for seed in harm.SEEDS])
    if harm.doubtful(toxic):
        toxic = torch.cat([toxic, *[await provoked(seed) for seed in harm.FURTHER]])
    preference = {}
    for kind, pairs in probes.pairs.items():
        found = [
            await parts.generation.run(lambda _, pair=pair: harm.prefers(model, [pair], choice))  # type: ignore[misc]
            for pair in pairs
        ]
        preference[kind] = torch.cat(found)
    shown = Conduct(toxic, preference)
    if adapter is None:
        known[chat] = shown
    return shown
