"""What a demo measured, and what that shows: exams before and after, thumbs, rounds, and how sure the difference is.

Knows numbers and the records of one demo. Does not know HTTP, tastes, or how any of it is shown.

    Exam     the held-out prompts, answered by one version and scored
    Seen     one round as it was seen over the API
    Course   all of a demo, in the order in which it happened

Intervals are 95 % percentile bootstraps over prompts (Efron 1979), drawn from a seed. A difference is paired: both
answers to a prompt are drawn or left out together.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

RESAMPLES = 10_000
CONFIDENCE = 0.95
SEED = 0


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """Of at least one value."""
        assert values
        draw = random.Random(SEED).choices
        means = sorted(fmean(draw(values, k=len(values))) for _ in range(RESAMPLES))
        beyond = round(RESAMPLES * (1 - CONFIDENCE) / 2)
        return cls(fmean(values), means[beyond], means[-1 - beyond])

    @classmethod
    def of_difference(cls, before: Sequence[float], after: Sequence[float]) -> Estimate:
        """Of `after` - `before`, the i-th of each belonging to the same prompt."""
        return cls.of([b - a for a, b in zip(before, after, strict=True)])


@dataclass(frozen=True)
class Marked:
    """One answer to a held-out prompt, with what the taste says of it."""

    prompt: str
    answer: str
    score: float
    accepted: bool
    words: int


@dataclass(frozen=True)
class Exam:
    """The held-out prompts, answered by `version` after so many `thumbs`."""

    version: int
    thumbs: int
    marked: list[Marked]

    @property
    def scores(self) -> list[float]:
        return [each.score for each in self.marked]

    @property
    def accepted(self) -> list[float]:
        return [float(each.accepted) for each in self.marked]

    @property
    def words(self) -> list[float]:
        return [float(each.words) for each in self.marked]


@dataclass(frozen=True)
class Thumb:
    """A thumb as it was given. `flipped`: against this user's own taste. `state`: what the service made of it."""

    prompt: str
    version: int
    score: float
    up: bool
    flipped: bool
    state: str


@dataclass(frozen=True)
class Step:
    """What a running round told of itself after one batch of rollouts: reward in log-odds, KL in nats an answer."""

    step: int
    reward: float
    kl: float


@dataclass(frozen=True)
class Seen:
    """A round as the API showed it last, with the steps on the way; `state` may still be waiting or running."""

    id: str
    state: str
    version: int | None
    reason: str | None
    metrics: dict[str, Any]
    seconds: float
    steps: list[Step]


@dataclass
class Course:
    """One demo. The first exam is of the base model; a later one follows each round that changed who answers."""

    user: str
    taste: str
    threshold: float
    seed: int
    max_tokens: int
    exams: list[Exam] = field(default_factory=list)
    thumbs: list[Thumb] = field(default_factory=list)
    rounds: list[Seen] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def before(self) -> Exam:
        return self.exams[0]

    @property
    def after(self) -> Exam:
        """The newest version's; the same as `before` while nothing was learnt."""
        return self.exams[-1]

    @property
    def gain(self) -> Estimate:
        """How much higher the taste's score is after than before, prompt by prompt."""
        return Estimate.of_difference(self.before.scores, self.after.scores)

    @property
    def learnt(self) -> bool:
        """Whether that gain is clear of nothing."""
        return self.gain.low > 0

    def to_json(self) -> dict[str, Any]:
        """All figures and texts."""
        return {
            **asdict(self),
            "confidence": CONFIDENCE,
            "versions": [
                {
                    "version": exam.version,
                    "thumbs": exam.thumbs,
                    "score": asdict(Estimate.of(exam.scores)),
                    "accepted": asdict(Estimate.of(exam.accepted)),
                    "words": asdict(Estimate.of(exam.words)),
                    "gain": asdict(Estimate.of_difference(self.before.scores, exam.scores)),
                }
                for exam in self.exams
            ],
            "learnt": self.learnt,
        }
