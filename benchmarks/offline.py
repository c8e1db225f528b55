"""The base model at a desk of its own: answers as chat or a round would draw them, without a service in between.

Knows the engine, chat's defaults, and what a round reads from thumbs. Does not know what is compared. A row's draws
depend on its seed and its own logits alone, so the same prompt and seed give the text that the service gives.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cache

from adapters.adapter import Adapter
from adapters.model import BaseModel, ModelConfig, load
from adapters.sampling import Sampling
from benchmarks import workload
from feedback.features import Answers
from feedback.rollouts import Prompt, Rollout, Sampler, features, rated
from feedback.round import Example, RoundConfig, split_prompts
from feedback.taste import Taste as Read
from feedback.taste import read_taste

Conversation = list[dict[str, str]]


@dataclasses.dataclass(frozen=True)
class Rated:
    """A thumb on an answer."""

    prompt: str
    answer: str
    ended: bool
    up: bool


class Desk:
    """`model`: the embedded one by default."""

    def __init__(self, config: RoundConfig, model: BaseModel | None = None) -> None:
        self.config = config
        self.model = model or load(ModelConfig(), workload.MODELS, report=lambda _: None)
        self.shape = self.model.lora_shape(self.config.rank, self.config.alpha)
        self._sampler = Sampler(self.model, self.shape, self.config.rows, stop=lambda: None)
        self.base = cache(self._base)

    def answers(
        self,
        prompts: Sequence[str | Conversation],
        first_seed: int,
        adapter: Adapter | None = None,
        penalty: float | None = None,
    ) -> list[Rollout]:
        """An answer to each prompt, the i-th with `first_seed` + i; of the base model where there is no adapter.
        `penalty`: for repetition, in the place of chat's."""
        most = self.model.context  # a baseline is told of its thumbs in the prompt, at length
        asked = [Prompt(_conversation(prompt), self.config.answer_tokens, most) for prompt in prompts]
        chat = dataclasses.replace(self.config.chat, seed=first_seed)
        if penalty is not None:
            chat = dataclasses.replace(chat, repetition_penalty=penalty)
        return self._sampler.sample(asked, adapter, chat)

    def read(self, rollouts: Sequence[Rollout]) -> Answers:
        """Their features."""
        return features(self.model, rollouts)

    def taste(self, thumbs: Sequence[Rated], base: Answers) -> Read:
        """What a round would read from these thumbs, none of them kept for the judge."""
        return self.reading([self.example(number, thumb) for number, thumb in enumerate(thumbs)], base)

    def reading(self, examples: Sequence[Example], base: Answers) -> Read:
        """What a round reads from these examples."""
        seen = self.read([rated(self.model, e.messages, e.answer, e.ended) for e in examples])
        return read_taste(self.model, examples, seen, base, self.config, lambda: None)

    def usual(self, thumbs: Sequence[Rated], first_seed: int) -> Answers:
        """What a round reads of the base model's answers: untouched draws, to the prompts of its rollouts."""
        prompts, _ = split_prompts(
            [self.example(number, each) for number, each in enumerate(thumbs)], self.config
        )
        return self.read(self._sampler.sample(prompts, None, Sampling(seed=first_seed)))

    def example(self, number: int, thumb: Rated, held_out: bool = False) -> Example:
        """A thumb as a round is given it; by default none is kept for the judge."""
        return Example(
            message_id=f"msg_{number}", revision=1, messages=_conversation(thumb.prompt), answer=thumb.answer,
            ended=thumb.ended, rating=1 if thumb.up else -1, correction=None, held_out=held_out,
            max_tokens=self.config.answer_tokens,
        )  # fmt: skip

    def _base(self, prompts: tuple[str, ...], first_seed: int) -> tuple[list[Rollout], Answers]:
        """The base model's answers and their features, computed once."""
        drawn = self.answers(prompts, first_seed)
        return drawn, self.read(drawn)


def _conversation(prompt: str | Conversation) -> Conversation:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
