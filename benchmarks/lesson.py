"""One person's thumbs, made ready for practice: what a round knows just before its first iteration.

Knows a simulated user's taste and the steps of a round up to there. Does not know how an iteration is computed, so
that ours and a plain loop start from the same prompts, the same reward model and the same settings.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from adapters.model import BaseModel
from benchmarks import workload
from feedback.features import Answers
from feedback.harm import Harm
from feedback.reward import RewardModel
from feedback.rollouts import Prompt, Sampler, features
from feedback.round import Example, Round, RoundConfig
from feedback.taste import read_taste
from service.tastes import TASTES

THUMBS = 32
TASTE = TASTES["second-person"]
SEED = 7


@dataclass(frozen=True)
class Lesson:
    """`base`: what is known of the base model's own answers to the round's prompts."""

    round: Round
    climbed: RewardModel
    base: Answers


def config(tokens: int) -> RoundConfig:
    """The service's own, at one length of answers, except that no update ends early: all take as many steps."""
    plain = RoundConfig(answer_tokens=tokens)
    return dataclasses.replace(plain, ppo=dataclasses.replace(plain.ppo, target_kl=math.inf))


def prepare(model: BaseModel, tokens: int) -> Lesson:
    """The simulated user's thumbs on answers of at most `tokens` tokens, and what a round reads from them."""
    settings = config(tokens)
    examples, read = _thumbs(model, settings)
    round = Round(model, settings, Harm(), SEED, examples, report=lambda _: None, stop=lambda: None)
    answers = round.sampler.sample(round.prompts, None, round.sampling(1))
    base = features(model, answers)
    taste = read_taste(model, examples, read, base, settings, round.stop)
    return Lesson(round, taste.climbed, base)


def _thumbs(model: BaseModel, settings: RoundConfig) -> tuple[list[Example], Answers]:
    """Rated answers and their features; every fifth thumb is kept for the judge."""
    shape = model.lora_shape(settings.rank, settings.alpha)
    sampler = Sampler(model, shape, settings.rows, stop=lambda: None)
    said = [[{"role": "user", "content": line}] for line in workload.lines()[:THUMBS]]
    prompts = [Prompt(messages, settings.answer_tokens) for messages in said]
    answers = sampler.sample(prompts, None, dataclasses.replace(settings.chat, seed=SEED))
    examples = [
        Example(
            message_id=f"msg_{number}",
            revision=1,
            messages=prompt.messages,
            answer=answer.text,
            ended=answer.ended,
            rating=1 if TASTE.likes(answer.text) else -1,
            correction=None,
            held_out=number % 5 == 0,
            max_tokens=prompt.max_tokens,
        )
        for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
    ]
    return examples, features(model, answers)
