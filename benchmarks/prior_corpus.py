"""The base model's answers that simulated people read, with their features; sampled once and kept in build/bench.

Knows prompts, instructions that make some answers of another style than the base model's own, and how answers are kept.
Does not know who reads them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Protocol

import torch
from safetensors.torch import load_file, save_file

from adapters.model import BaseModel, ModelConfig, load
from adapters.sampling import Sampling
from benchmarks import workload
from benchmarks.results import Say
from feedback.crowd import tally
from feedback.features import Answers
from feedback.rollouts import Prompt, Rollout, Sampler, features, rated, styles
from feedback.round import RoundConfig

LENGTHS = (48, 96)  # tokens of the longest answer, in turns
SEED = 4000
ROLLOUT = Sampling(seed=SEED)  # as rollouts are drawn: the policy's own distribution
SUBJECTS = (
    "bees", "bread", "bridges", "cats", "cheese", "clouds", "coffee", "dancing", "dinosaurs", "dreams", "farming",
    "fire", "football", "gardens", "glaciers", "gold", "honesty", "islands", "jazz", "kindness", "libraries", "maps",
    "markets", "money", "music", "oceans", "painting", "paper", "patience", "rivers", "robots", "salt", "sleep",
    "snow", "stars", "storms", "tea", "trains", "trees", "weather",
)  # fmt: skip
QUESTIONS = (
    "What should everybody know about {}?", "Write a short text about {}.", "Why do people care about {}?",
    "How would you explain {} to a child?", "What do you think of {}?", "Give me three ideas that have to do with {}.",
)  # fmt: skip
INSTRUCTIONS = (
    "Answer with a numbered list.", "Answer with bullet points.", "Answer in one short sentence.",
    "Answer in long and formal sentences.", "Be cheerful and use many exclamation marks and emoji.",
    "Be sober and careful, and say what is not certain.", "Speak to the reader as you, and be friendly.",
    "Speak of yourself as I.", "Ask questions in your answer.", "End with a question to the reader.",
    "Use headings and bold words.", "Be very polite.", "Tell a little story.", "Use very simple words.",
    "Give orders, step by step.", "Use numbers and quotations.",
)  # fmt: skip


@dataclass(frozen=True)
class Corpus:
    """N answers: `texts`, which `prompt` each answers, what is `read` of them, on which `model` (digest)."""

    texts: list[str]
    prompt: list[int]
    read: Answers
    model: str

    def __len__(self) -> int:
        return len(self.texts)


def embedded() -> BaseModel:
    """The base model that the prior is made for."""
    return load(ModelConfig(), workload.MODELS, report=lambda _: None)


def to_learn_from(say: Say) -> Corpus:
    """Answers to the neutral prompts and to some of ours: as chat draws them, as rollouts are drawn, and instructed."""
    neutral = (resources.files("feedback") / "neutral_prompts.txt").read_text(encoding="utf-8").splitlines()
    ours = [QUESTIONS[n % len(QUESTIONS)].format(subject) for n, subject in enumerate(SUBJECTS)]
    lines = [*filter(str.strip, neutral), *ours]
    asked = [(n, line, None) for n, line in enumerate(lines)]
    told = [(n, line, INSTRUCTIONS[n % len(INSTRUCTIONS)]) for n, line in enumerate(lines)]
    return _kept("prior-learn", [(asked, _chat()), (asked, ROLLOUT), (told, _chat())], say)


def to_judge_by(say: Say) -> Corpus:
    """Two answers to each of the demo's prompts, as chat draws them: none of them is learnt from."""
    asked = [(n, line, None) for n, line in enumerate(workload.lines())]
    draws = [replace(_chat(), seed=SEED + 1000 * (turn + 1)) for turn in range(2)]
    found = _kept("prior-judge", [(asked, sampling) for sampling in draws], say)
    return replace(found, read=replace(found.read, counts=tally(found.texts)))


def _chat() -> Sampling:
    return replace(RoundConfig().chat, seed=SEED)


# The prompt's number, the prompt, and an instruction that whoever reads the answer does not see.
Asked = Sequence[tuple[int, str, str | None]]


def _kept(name: str, wanted: Sequence[tuple[Asked, Sampling]], say: Say) -> Corpus:
    file, words = workload.BUILD / f"{name}.safetensors", workload.BUILD / f"{name}.json"
    if not words.exists():
        model = embedded()
        rows = [row for asked, sampling in wanted for row in _answers(model, asked, sampling, say)]
        say(f"{name}: reading {len(rows)} answers")
        states = features(model, [rollout for _, rollout in rows]).states
        save_file({"states": states}, file)
        told = {"model": model.digest, "rows": [(number, r.text, r.ended) for number, r in rows]}
        words.write_text(json.dumps(told))
    told = json.loads(words.read_text())
    found = told["rows"]
    texts = [text for _, text, _ in found]
    style = styles([(text, ended) for _, text, ended in found])
    read = Answers(style, load_file(file)["states"])
    return Corpus(texts, [number for number, _, _ in found], read, told["model"])


def _answers(model: BaseModel, asked: Asked, sampling: Sampling, say: Say) -> list[tuple[int, Rollout]]:
    """Sampled answers that say something, each as if it had been given without the instruction."""
    config = RoundConfig()
    sampler = Sampler(model, model.lora_shape(config.rank, config.alpha), config.rows, lambda: None)
    prompts = [
        Prompt(_messages(line, instruction), LENGTHS[n % len(LENGTHS)])
        for n, (_, line, instruction) in enumerate(asked)
    ]
    made = sampler.sample(prompts, None, sampling)
    say(f"{sum(len(rollout.answer) for rollout in made)} tokens sampled")
    return [
        (number, rated(model, _messages(line, None), rollout.text, rollout.ended))
        for (number, line, _), rollout in zip(asked, made, strict=True)
        if rollout.text.strip()
    ]


def _messages(line: str, instruction: str | None) -> list[dict[str, str]]:
    told = [{"role": "system", "content": instruction}] if instruction else []
    return [*told, {"role": "user", "content": line}]


class Person(Protocol):
    """Somebody simulated, whose thumbs are known for any text."""

    @property
    def name(self) -> str: ...

    def score(self, text: str) -> float: ...

    def likes(self, text: str) -> bool: ...


def liked(people: Sequence[Person], texts: Sequence[str]) -> torch.Tensor:
    """(K, N) 1 where one of K people likes a text, else 0."""
    return torch.tensor([[float(person.likes(text)) for text in texts] for person in people])
