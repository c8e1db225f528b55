"""An adapter brought in from elsewhere: is it one of ours in shape, is it sound, and then it is a version.

Knows the order: check the archive, let the adapter answer some neutral prompts and the probes beside the base model,
ask the gate's checks that need no thumbs, publish. Does not know HTTP, nor what an archive is. The adapter is tried
in the chat engine, as one more owner among the rows, so that chats go on meanwhile.
"""

from __future__ import annotations

import secrets
import time
from importlib import resources
from typing import Any

import torch
from fastapi.concurrency import run_in_threadpool
from torch import Tensor

from adapters.adapter import Adapter
from adapters.engine import Engine
from adapters.export import Limits, unpack
from adapters.lora import Base, Trained
from adapters.model import BaseModel
from adapters.policy import Sequences, score, score_base
from adapters.sampling import Sampling
from adapters.slots import NoFreeSlot
from adapters.store import Candidate
from feedback.gate import GateConfig, Verdict, harmless, soundness
from feedback.harm import choice_of
from feedback.ppo import per_token_kl
from service.learning import overtaking
from service.parts import Parts
from service.trial import Tried, conduct, tried

ANSWERS = 8  # neutral prompts that the adapter is tried on
TOKENS = 64  # of each answer, at most
# Eight short answers are few: only what is plainly broken differs so much from the base's.
LIMITS = GateConfig(empty_rise=0.25, repetition_rise=0.25, cut_off_rise=0.5)


async def bring_in(parts: Parts, uid: str, archive: bytes) -> int:
    """The number of the new version. Raises `BadAdapter`, the store's errors, what `trial.tried` does, and
    `NoFreeSlot`."""
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
    """Over whatever has happened to the adapter while it was tried: of what a person asks for, the latest counts."""
    with overtaking(parts, uid):
        return parts.store.publish(uid, candidate, parts.store.head(uid).epoch)


async def _examine(parts: Parts, uid: str, adapter: Adapter) -> tuple[Verdict, dict[str, Any]]:
    """The gate's verdict and what it measured."""
    owner = (uid, -secrets.randbits(48) - 1)  # no version's number, and never used again

    def take_a_slot(engine: Engine) -> None:
        # One slot is left to chats: a chat that found none would hold up the line, and the import's answers in it.
        if sum(version < 0 for _, version in engine.slots.pins) >= parts.settings.slots - 1:
            raise NoFreeSlot
        engine.slots.put(owner, adapter)
        engine.slots.pin(owner)

    def give_it_back(engine: Engine) -> None:
        if owner in engine.slots.pins:  # cancelled or refused, it may not have been taken
            engine.slots.unpin(owner)

    lines = resources.files("feedback").joinpath("neutral_prompts.txt").read_text().splitlines()[:ANSWERS]
    try:
        await parts.generation.run(take_a_slot)
        # One after the other, for one user's answers have only a share of the engine's places.
        ours, base = [await tried(parts, uid, one, lines, TOKENS, Sampling()) for one in (owner, None)]
        own_conduct = await conduct(parts, uid, owner, adapter)
    finally:
        await parts.generation.run(give_it_back)
    base_conduct = await conduct(parts, uid, None, None)
    share, metrics = await _nearness(parts, adapter, ours)
    chance = torch.Generator().manual_seed(0)  # the same archive, the same verdict
    checks = [
        *soundness(
            ours.side,
            base.side,
            kl_base=metrics["kl"],
            kl_token=metrics["kl_per_token"],
            entropy_share=share,
            config=LIMITS,
            generator=chance,
        ),
        *harmless(own_conduct, base_conduct, LIMITS, chance),
    ]
    return Verdict(checks), metrics


async def _nearness(parts: Parts, adapter: Adapter, ours: Tried) -> tuple[float, dict[str, Any]]:
    """On the adapter's own answers: its entropy as a share of the base's, and the metrics of a version."""
    choice = choice_of(parts.model, adapter)
    sums = torch.zeros(3)  # KL, entropy, the base's entropy
    for pair in zip(ours.prompts, ours.answers, strict=True):
        # One answer at a time: the rows of the chats wait for no more than that.
        sums += await parts.generation.run(
            lambda _, pair=pair: _compare(parts.model, choice, pair)  # type: ignore[misc]
        )
    kl, own, of_base = sums.tolist()
    tokens = sum(map(len, ours.answers))
    metrics = {"kl": kl / len(ours.answers), "kl_per_token": kl / tokens, "entropy": own / tokens}
    return own / max(of_base, 1e-9), metrics


@torch.inference_mode()
def _compare(model: BaseModel, choice: Base | Trained, pair: tuple[list[int], list[int]]) -> Tensor:
    """(3,) of one answer, summed over its tokens, in nats: KL to the base, entropy, the base's entropy."""
    sequences = Sequences.of([pair], model.device)
    own = score(model, sequences, choice)
    base = score_base(model, sequences)
    kl = per_token_kl(own.logprobs, base.logprobs)
    return torch.stack([kl.sum(), own.entropy.sum(), base.entropy.sum()]).cpu()
