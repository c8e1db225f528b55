"""Answers sampled in the trainer's process, and their features.

Knows the engine, prompts and features; knows nothing of thumbs, losses or Redis. Rollouts are drawn from the policy's
own distribution (temperature 1, nothing cut off), as long as the person's own answers were allowed to be, up to a
round's own limit; the gate's answers are drawn as chat draws them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from adapters.adapter import Adapter, LoraShape
from adapters.engine import Engine, Request
from adapters.model import BaseModel
from adapters.policy import Sequences, mean_states
from adapters.sampling import Sampling
from adapters.slots import Slots
from feedback.crowd import tally
from feedback.features import Answers
from feedback.style import FEATURES, measure

TOGETHER = 8  # answers that are read in one pass
# Of a conversation, its newest tokens: a gradient keeps some 0.4 MB a token of a small model, and nobody's long chats
# may hold up the rounds of all others for hours.
PROMPT_TOKENS = 1024
POLICY = "policy"  # the owner's name of an adapter that lives in the trainer's memory only


@dataclass(frozen=True)
class Prompt:
    """A conversation that waits for an answer of at most `max_tokens` tokens; its newest `most` tokens are read."""

    messages: list[dict[str, str]]
    max_tokens: int
    most: int = PROMPT_TOKENS


@dataclass(frozen=True)
class Rollout:
    """One sampled answer. `answer` holds the end token when the answer `ended`; of each token, the engine's
    log-probability and entropy in nats."""

    prompt: list[int]
    answer: list[int]
    logprobs: list[float]
    entropies: list[float]
    text: str
    ended: bool


class Sampler:
    """An engine of the trainer's own, for one adapter at a time."""

    def __init__(self, model: BaseModel, shape: LoraShape, rows: int, stop: Callable[[], None]) -> None:
        """`stop` is called between tokens and raises to abandon the round."""
        self.model = model
        self.slots = Slots(model, shape, _not_in_a_file, count=1)
        self.engine = Engine(model, self.slots, rows, patient=True)
        self.policies = (
            0  # each in its turn is an owner of its own, so that no past of one is taken for another's
        )
        self.stop = stop

    def sample(self, prompts: Sequence[Prompt], adapter: Adapter | None, sampling: Sampling) -> list[Rollout]:
        """An answer to each prompt under `adapter` (None: the base model); the i-th draws with `sampling.seed` + i."""
        owner = None
        if adapter is not None:
            self.policies += 1
            owner = (POLICY, self.policies)
            self.slots.put(owner, adapter)
        encoded = [newest(self.model, self.model.encode(p.messages), p.max_tokens, p.most) for p in prompts]
        for number, (prompt, ids) in enumerate(zip(prompts, encoded, strict=True)):
            draws = replace(sampling, seed=sampling.seed + number)
            self.engine.add(Request(str(number), ids, owner, prompt.max_tokens, draws))
        return self._collect(encoded)

    def _collect(self, encoded: list[list[int]]) -> list[Rollout]:
        tokens: list[list[int]] = [[] for _ in encoded]
        logprobs: list[list[float]] = [[] for _ in encoded]
        entropies: list[list[float]] = [[] for _ in encoded]
        ended = [False] * len(encoded)
        try:
            while self.engine.busy:
                self.stop()
                for token in self.engine.step():
                    assert token.error is None, "the policy's slot is filled before its rows begin"
                    number = int(token.request)
                    tokens[number].append(token.id)
                    logprobs[number].append(token.logprob)
                    entropies[number].append(token.entropy)
                    ended[number] = token.finish == "stop"
        finally:
            for number in range(len(encoded)):
                self.engine.cancel(str(number))
        return [
            Rollout(prompt, answer, logs, spread, self.model.decode(answer), end)
            for prompt, answer, logs, spread, end in zip(
                encoded, tokens, logprobs, entropies, ended, strict=True
            )
        ]


def features(
    model: BaseModel, rollouts: Sequence[Rollout], stop: Callable[[], None] = lambda: None
) -> Answers:
    """Features of answers: their style, the mean of the base model's states that their tokens were chosen on, and what
    people may count in them."""
    states = [torch.empty(0, model.hidden)]  # for there may be none
    for start in range(0, len(rollouts), TOGETHER):
        stop()
        part = rollouts[start : start + TOGETHER]
        sequences = Sequences.of([(rollout.prompt, rollout.answer) for rollout in part], model.device)
        states.append(mean_states(model, sequences).cpu())
    texts = [rollout.text for rollout in rollouts]
    return Answers(styles([(r.text, r.ended) for r in rollouts]), torch.cat(states), tally(texts))


def styles(texts: Sequence[tuple[str, bool]]) -> torch.Tensor:
    """(N, S) of style.py's features, for texts and whether each ended by itself."""
    measured = torch.tensor([measure(text, ended) for text, ended in texts], dtype=torch.float32)
    return measured.view(len(texts), len(FEATURES))


def newest(model: BaseModel, prompt: list[int], room: int, most: int) -> list[int]:
    """Of a prompt's ids the newest `most`; so few that an answer of `room` tokens, which is less than the model's
    context, still fits."""
    return prompt[-min(most, model.context - room) :]


def rated(model: BaseModel, messages: list[dict[str, str]], answer: str, ended: bool) -> Rollout:
    """A finished answer from the message log, as if it had just been sampled."""
    prompt = model.encode(messages)
    tokens = model.encode(messages, answer)[len(prompt) : model.context]
    return Rollout(newest(model, prompt, len(tokens), PROMPT_TOKENS), tokens, [], [], answer, ended)


def _not_in_a_file(uid: str, version: int) -> Adapter:
    raise AssertionError("the sampler's one adapter is put there, never loaded")
