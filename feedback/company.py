"""Whom of a crowd one person may be like, among the answers that are usual for that person.

Knows people as crowd.py has them, features, and how few may stand for many; knows nothing of thumbs (posterior.py
weighs the people) or of rewards.

Shapes: M people, F features, N answers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from feedback.crowd import FIRMNESS, Crowd, People
from feedback.features import Answers, Scale

DRAWS = 4096  # of people, by how likely it is that this person is like them
LEANING = 0.3  # of the ridge by which leanings are told, as a share of the number of answers
HARDLY = 1e-6  # of all probability: a crowd that this person is so little like is nobody


@dataclass(frozen=True)
class Company:
    """Whom of a crowd a person may be like: M `people` among the answers that are usual here, and how each `leans`
    (M, F): what a deviation more of a feature changes in the log-odds of their thumb, by ridge regression."""

    people: People
    leans: Tensor

    @staticmethod
    def among(crowd: Crowd, usual: Answers, seen: Answers, scale: Scale) -> Company:
        """`usual`: what the base model answers here; `seen`: more answers, to learn the leanings from."""
        people = crowd.among(usual.counts)
        read = Answers.join([usual, seen])
        x = scale.features(read)
        x = x - x.mean(0)
        odds = FIRMNESS * people.scores(read.counts) / people.unit
        known = x.T @ x + LEANING * len(x) * torch.eye(x.shape[1])
        return Company(people, torch.linalg.solve(known, x.T @ (odds - odds.mean(0))).T)

    def some(self, people: Tensor) -> Company:
        """Some of them, by number."""
        return Company(self.people.some(people), self.leans[people])

    @staticmethod
    def nobody(features: int) -> Company:
        """Where there is no crowd."""
        return Company(People.nobody(), torch.empty(0, features))


def resampled(people: Tensor) -> tuple[Tensor, Tensor]:
    """Of people (M,) with their probabilities fewer, who stand for all: systematic resampling (Kitagawa 1996, appendix)
    from the middle of each of DRAWS equal steps, so that nothing is random. → numbers and probabilities (M',); of a
    crowd that this person is hardly like at all, nobody, for its steps might be too small for a number."""
    whole = people.sum()
    if not whole > HARDLY:
        return torch.empty(0, dtype=torch.long), people[:0]
    steps = (torch.arange(DRAWS) + 0.5) / DRAWS
    drawn = torch.searchsorted(people.double().cumsum(0) / whole, steps).clamp_max(len(people) - 1)
    kept, times = drawn.unique(return_counts=True)
    return kept, times * (whole / DRAWS)
