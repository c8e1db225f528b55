"""An adapter brought in from elsewhere: is it one of ours in shape, is it sound, and then it is a version.

Knows the order: check the archive, let the adapter answer some neutral prompts beside the base model, ask the gate's
checks that need no thumbs, publish. Does not know HTTP, or what is in an archive. The adapter is tried in the chat
engine, as one more owner among the rows, so that chats go on meanwhile.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass
from importlib import resources
from typing import Any

import torch
from fastapi.concurrency import run_in_threadpool

from adapters.adapter import Adapter
from adapters.engine import Engine, Request
from adapters.export import Limits, unpack
from adapters.lora import Trained
from adapters.model import BaseModel
from adapters.policy import Sequences, score, score_base
from adapters.sampling import Sampling
from adapters.slots import NoFreeSlot, Owner
from adapters.store import Candidate
from feedback.gate import GateConfig, Side, Verdict, soundness
from feedback.ppo import per_token_kl
from service.answers import Ask
from service.generation import Stopping
from service.parts import Parts

ANSWERS = 8  # neutral prompts that the adapter is tried on
TOKENS = 64  # of each answer, at most
# Eight short answers are few: only what is plainly broken differs so much from the base's.
LIMITS = GateConfig(empty_rise=0.25, repetition_rise=0.25, cut_off_rise=0.5)


@dataclass(frozen=True)
class _Tried:
    """Answers to the neutral prompts, in their order."""

    prompts: list[list[int]]
    answers: list[list[int]]
    side: Side


async def bring_in(parts: Parts, uid: str, archive: bytes) -> int:
    """The number of the new version. Raises `BadAdapter`, the store's errors, `Busy`, `NoFreeSlot`,
    `Stopping`."""
    limits = Limits(parts.settings.max_import)
    adapter = await run_in_threadpool(unpack, archive, parts.shape, parts.store.base, limits)
    began = time.monotonic()
    verdict, metrics = await _examine(parts, uid, adapter)
    metrics |= {"thumbs": 0, "seconds": time.monotonic() - began}
    candidate = Candidate(
        adapter=adapter, learner_tensors={}, learner_meta={}, parent=None, trained_on=[], metrics=metrics,
        gate=verdict.to_json(), seed=0,
    )  # fmt: skip
    return await run_in_threadpool(_publish, parts, uid, candidate)


def _publish(parts: Parts, uid: str, candidate: Candidate) -> int:
    number = parts.store.publish(uid, candidate, parts.store.head(uid).epoch)
    parts.rounds.overtake(uid)
    return number


async def _examine(parts: Parts, uid: str, adapter: Adapter) -> tuple[Verdict, dict[str, Any]]:
    """The gate's verdict and what it measured."""
    owner = (uid, -secrets.randbits(48) - 1)  # no version's number, and never used again

    def take_a_slot(engine: Engine) -> None:
        # One slot is left to chats: a chat that found none would hold up the line, and the import's answers in it.
        if sum(version < 0 for _, version in engine.slots.pins) >= parts.settings.slots - 1:
            raise NoFreeSlot
        engine.slots.put(owner, adapter)
        engine.slots.pin(owner)

    await parts.generation.run(take_a_slot)
    try:
        tried, base = await asyncio.gather(_answers(parts, uid, owner), _answers(parts, uid, None))
    finally:
        await parts.generation.run(lambda engine: engine.slots.unpin(owner))
    kls, entropies, base_entropies, tokens = [], [], [], 0
    for prompt, answer in zip(tried.prompts, tried.answers, strict=True):
        # One answer at a time: the rows of the chats wait for no more than that.
        kl, own, of_base = await parts.generation.run(
            lambda _, pair=(prompt, answer): _compare(parts.model, adapter, pair)  # type: ignore[misc]
        )
        kls.append(kl)
        entropies.append(own)
        base_entropies.append(of_base)
        tokens += len(answer)
    share = sum(entropies) / max(sum(base_entropies), 1e-9)
    kl = sum(kls) / len(kls)
    chance = torch.Generator().manual_seed(0)  # the same archive, the same verdict
    checks = soundness(
        tried.side, base.side, kl_base=kl, entropy_share=share, config=LIMITS, generator=chance
    )
    return Verdict(checks), {"kl": kl, "kl_per_token": sum(kls) / tokens, "entropy": sum(entropies) / tokens}


async def _answers(parts: Parts, uid: str, owner: Owner | None) -> _Tried:
    """Answers to the first neutral prompts, drawn from the plain distribution, alike for every owner."""
    lines = resources.files("feedback").joinpath("neutral_prompts.txt").read_text().splitlines()[:ANSWERS]
    messages = [[{"role": "user", "content": line}] for line in lines]
    prompts = [parts.model.encode(each) for each in messages]
    room = parts.model.context - max(map(len, prompts))
    asks = [
        Ask(
            Request(f"import-{secrets.token_hex(8)}", prompt, owner, min(TOKENS, room), Sampling(seed=seed)),
            uid,
        )
        for seed, prompt in enumerate(prompts)
    ]
    texts, ended = [""] * len(asks), [False] * len(asks)
    async for piece in parts.generation.submit(asks):
        if piece.finish == "cancelled":
            raise Stopping("the service is stopping")
        if piece.error:
            raise piece.error
        texts[piece.index] += piece.text
        ended[piece.index] |= piece.finish == "stop"
    whole = [parts.model.encode(each, text) for each, text in zip(messages, texts, strict=True)]
    # An empty answer is judged by how it ended.
    end = [min(parts.model.eos_ids)]
    answers = [ids[len(prompt) :] or end for ids, prompt in zip(whole, prompts, strict=True)]
    return _Tried(prompts, answers, Side(texts, ended))


@torch.inference_mode()
def _compare(
    model: BaseModel, adapter: Adapter, pair: tuple[list[int], list[int]]
) -> tuple[float, float, float]:
    """Of one answer, summed over its tokens, in nats: KL to the base, entropy, the base's entropy."""
    sequences = Sequences.of([pair], model.device)
    factors = {name: (a.to(model.device), b.to(model.device)) for name, (a, b) in adapter.weights.items()}
    own = score(model, sequences, Trained(factors, adapter.shape.scale))
    base = score_base(model, sequences)
    kl = per_token_kl(own.logprobs, base.logprobs)
    return float(kl.sum()), float(own.entropy.sum()), float(base.entropy.sum())
