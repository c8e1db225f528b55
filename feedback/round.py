"""What one round of learning is given and carries along: settings, examples, prompts, corrections, seeds, progress.

Knows how prompts and corrections are shared out between practice and gate; knows nothing of rewards, losses, Redis or
disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import torch

from adapters.model import BaseModel
from adapters.sampling import Sampling
from feedback import gate, ppo, reward
from feedback.harm import Harm
from feedback.rollouts import PROMPT_TOKENS, Prompt, Sampler, newest

Report = Callable[["Progress"], None]
Stop = Callable[[], None]


@dataclass(frozen=True)
class RoundConfig:
    """How a round learns. `chat` is how chat draws its answers, for the gate; its seed is not used."""

    rank: int = 8
    alpha: float = 16.0
    iterations: int = 7  # sampling and updating, ≥ 1
    rollouts: int = 32  # answers an iteration, ≥ 2
    rows: int = 32  # answers sampled at once, ≥ 1
    room: float = 0.25  # least share of the lifetime's KL that is left where a round sets out, 0 to 1
    answer_tokens: int = 160  # longest rollout, as chat's own answers
    kl_coef: float = 0.03  # log-odds a nat, where the controller begins
    kl_target: float = 12.0  # nats an answer that the controller aims at, at least
    kl_doubt: float = 0.25  # > 0, whether a version is liked: from there on a nat costs the coefficient
    kl_horizon: float = 128.0  # answers until a full correction
    correction_coef: float = 0.2  # γ, ≥ 0: of the corrections' cross-entropy a token, beside PPO's loss
    retention_coef: float = 0.1  # ≥ 0: of moved margins, squared (retention.py), beside PPO's loss
    critic_epochs: int = 6  # passes over each batch of rollouts before the policy moves
    chat: Sampling = field(default_factory=lambda: Sampling(0.7, 0.9, 1.1))
    ppo: ppo.PPOConfig = field(
        default_factory=lambda: ppo.PPOConfig(
            lam=0.9,
            epochs=1,
            minibatch_rows=4,
            learning_rate=1.5e-3,
            critic_learning_rate=3e-3,
            target_kl=0.1,
        )
    )
    reward: reward.RewardConfig = field(default_factory=reward.RewardConfig)
    gate: gate.GateConfig = field(default_factory=gate.GateConfig)


@dataclass(frozen=True)
class Example:
    """A rated answer. `rating` +1 or -1; `held_out` is kept from the climbed reward model; only the judge knows it."""

    message_id: str
    revision: int
    messages: list[dict[str, str]]
    answer: str
    ended: bool
    rating: int
    correction: str | None
    held_out: bool
    max_tokens: int

    @property
    def wanted(self) -> str | None:
        """The correction without the space around it; None where there is none, or nothing but space."""
        return (self.correction or "").strip() or None

    @property
    def silent(self) -> bool:
        """Whether there is nothing in the answer to learn from; what was wanted in its place may teach all the same."""
        return not self.answer.strip()

    @property
    def lesson(self) -> str | None:
        """What PPO learns by word: the correction, unless it is held out; that one is the judge's."""
        return None if self.held_out else self.wanted


@dataclass(frozen=True)
class Progress:
    """How far a round is: `step` of `steps`, what it does now, and its figures so far."""

    step: int
    steps: int
    stage: str
    metrics: dict[str, Any]


class Round:
    """The parts of one round and what is known so far."""

    def __init__(
        self,
        model: BaseModel,
        config: RoundConfig,
        harm: Harm,
        seed: int,
        examples: Sequence[Example],
        report: Report,
        stop: Stop,
    ) -> None:
        self.model = model
        self.config = config
        self.harm = harm
        self.seed = seed
        self.generator = torch.Generator().manual_seed(seed)
        self.shape = model.lora_shape(config.rank, config.alpha)
        self.sampler = Sampler(model, self.shape, config.rows, stop)
        self.stop = stop
        self.prompts, self.gate_prompts = split_prompts(examples, config)
        self.lessons = lessons(model, examples, config.answer_tokens)
        self.metrics: dict[str, Any] = {}
        self._report = report
        self._step = 0

    def begin(self, stage: str) -> None:
        """Tell what comes next; a safe point."""
        self.stop()
        self._report(Progress(self._step, self.config.iterations + 4, stage, dict(self.metrics)))
        self._step += 1

    def skip(self, steps: int) -> None:
        """So many steps will not be gone."""
        self._step += steps

    def sampling(self, purpose: int) -> Sampling:
        """Untouched draws with seeds of their own for each purpose of the round."""
        return Sampling(seed=(self.seed + 1) * 1_000_003 + purpose * 10_007)


def split_prompts(examples: Sequence[Example], config: RoundConfig) -> tuple[list[Prompt], list[Prompt]]:
    """Prompts for rollouts and, disjoint from them, for the gate: the person's own, then a shipped neutral set.

    A prompt's side follows from its own words, so that it never changes sides from round to round; but one whose
    wanted answer is learnt by word is no prompt for the gate.
    """
    own: dict[str, Prompt] = {}
    for example in reversed(examples):  # the newest first: they are nearest to what comes next
        limit = min(example.max_tokens, config.answer_tokens)
        own.setdefault(_key(example.messages), Prompt(example.messages, limit))
    longest = max((prompt.max_tokens for prompt in own.values()), default=config.answer_tokens)
    lines = (resources.files("feedback") / "neutral_prompts.txt").read_text().splitlines()
    neutral = [Prompt([{"role": "user", "content": line}], longest) for line in lines if line.strip()]
    pool = own | {_key(p.messages): p for p in neutral if _key(p.messages) not in own}
    taught = {_key(example.messages) for example in examples if example.lesson}
    apart = {key for key in pool if key[0] in "0123"} - taught  # a quarter
    for_gate = [p for key, p in pool.items() if key in apart][: config.gate.prompts]
    return [p for key, p in pool.items() if key not in apart][: config.rollouts], for_gate


def lessons(model: BaseModel, examples: Sequence[Example], longest: int) -> list[tuple[list[int], list[int]]]:
    """(prompt, answer) token ids of the corrections that are learnt by word, each with its end token.

    Of one longer than `longest` tokens only so much is learnt, for no answer gets further; of a long prompt the oldest
    tokens are dropped, as in rollouts.
    """
    end = model.tokenizer.eos_token_id  # a chat's: a model may name others, which end a text of another kind
    if end is None:
        end = min(model.eos_ids)
    found = []
    for example in examples:
        if example.lesson:
            prompt = model.encode(example.messages)
            answer = model.encode(example.messages, example.lesson)[len(prompt) :]
            found.append((newest(model, prompt, longest, PROMPT_TOKENS), [*answer, end][:longest]))
    return found


def _key(messages: list[dict[str, str]]) -> str:
    words = "\n".join(f"{m['role']}: {m['content']}" for m in messages)
    return hashlib.sha256(words.encode()).hexdigest()
