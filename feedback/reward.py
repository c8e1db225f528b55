"""One person's reward model: how that person would like an answer, and how sure that is.

Knows features, thumbs and linear algebra; knows nothing of Redis, disk, rollouts or PPO. Pure: the same inputs give
the same model, and nothing random is drawn.

The model is a Bayesian logistic regression with a Gaussian prior, fitted by Laplace's method (MacKay 1992; Bishop
2006, §4.5). An answer's features are its style (style.py) and the base model's last hidden states over it, averaged
and reduced to the directions in which this person's answers differ most. The prior is tight, so a few thumbs move it
a little and no number of alike thumbs moves it far; what is not known yet stands in the covariance. Labels are taken
to be wrong with probability `flip`.

An answer is worth what it is better than the base model's answer to the same prompt, at a lower confidence bound:
    r(x) = mᵀΔ − c·√(Δᵀ S Δ),   Δ = φ(x) − φ(base's answer)
so that PPO is not paid for going where nobody has judged (Coste et al. 2023 use an ensemble's spread alike).

Shapes: N answers, F = S + C features: S of style, C components of hidden states; D hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from feedback.style import FEATURES

NEWTON_STEPS = 50


@dataclass(frozen=True)
class RewardConfig:
    """Standard deviations are of a weight's prior, in log-odds per standard deviation of its feature."""

    components: int = 12  # directions of hidden states kept, ≥ 0
    style_std: float = 0.8  # > 0
    state_std: float = 0.25  # > 0
    bias_std: float = 1.5  # > 0
    flip: float = 0.1  # share of thumbs believed to be slips, 0 to 0.5
    caution: float = 0.3  # c: standard deviations taken off the reward, ≥ 0
    reach: float = 3.0  # standard deviations at which a feature is held, > 0: no reward beyond what was seen
    auroc_least: int = 3  # held-out thumbs of each kind below which no AUROC is given, ≥ 1


@dataclass(frozen=True)
class Answers:
    """Features of N answers before scaling: `style` (N, S) and `states` (N, D), float32 on the CPU."""

    style: Tensor
    states: Tensor

    def __len__(self) -> int:
        return len(self.style)

    def rows(self, index: list[int]) -> Answers:
        """Some of them."""
        return Answers(self.style[index], self.states[index])

    @staticmethod
    def join(parts: list[Answers]) -> Answers:
        """All of them, in order."""
        return Answers(torch.cat([p.style for p in parts]), torch.cat([p.states for p in parts]))


@dataclass(frozen=True)
class Scale:
    """What brings features to mean 0 and deviation 1: of style (S,), and of the states' components (D, C)."""

    style_mean: Tensor
    style_std: Tensor
    state_mean: Tensor
    components: Tensor
    reach: float

    @staticmethod
    def of(answers: Answers, config: RewardConfig) -> Scale:
        """The scale of a set of answers; a feature that never varies there stays at 0 everywhere."""
        std = answers.style.std(dim=0, correction=0)
        centred = answers.states - answers.states.mean(dim=0)
        _, spread, directions = torch.linalg.svd(centred, full_matrices=False)
        kept = min(config.components, max(0, len(answers) - 1))
        deviation = spread[:kept] / len(answers) ** 0.5
        components = torch.zeros(answers.states.shape[1], config.components)  # (D, C)
        components[:, :kept] = (directions[:kept] / deviation.clamp_min(1e-6)[:, None]).T
        return Scale(
            answers.style.mean(dim=0),
            std.masked_fill(std < 1e-6, float("inf")),
            answers.states.mean(dim=0),
            components,
            config.reach,
        )

    def features(self, answers: Answers) -> Tensor:
        """(N, F), each held within `reach` deviations."""
        style = ((answers.style - self.style_mean) / self.style_std).clamp(-self.reach, self.reach)
        return torch.cat([style, self.reduced(answers.states)], dim=1)

    def reduced(self, states: Tensor) -> Tensor:
        """(..., D) → (..., C), held likewise."""
        return ((states - self.state_mean) @ self.components).clamp(-self.reach, self.reach)


@dataclass(frozen=True)
class RewardModel:
    """The posterior over weights: `mean` (F,) and `covariance` (F, F), the bias integrated out."""

    scale: Scale
    mean: Tensor
    covariance: Tensor
    caution: float

    def worth(self, answers: Answers, base: Answers) -> tuple[Tensor, Tensor]:
        """How much better answers are than the base's, log-odds of a thumb up: mean and deviation (N,)."""
        delta = self.scale.features(answers) - self.scale.features(base)
        return delta @ self.mean, ((delta @ self.covariance) * delta).sum(1).clamp_min(0).sqrt()

    def reward(self, answers: Answers, base: Answers) -> Tensor:
        """(N,) the lower confidence bound of `worth`."""
        mean, std = self.worth(answers, base)
        return mean - self.caution * std

    def preference(self, answers: Answers) -> Tensor:
        """(N,) log-odds of a thumb up, but for a constant: for ranking answers to different prompts."""
        return self.scale.features(answers) @ self.mean

    def beliefs(self) -> list[tuple[str, float, float]]:
        """Of each style feature: (its name, log-odds a standard deviation, the same in its own deviations)."""
        std = self.covariance.diagonal().clamp_min(1e-12).sqrt()
        rows = zip(FEATURES, self.mean.tolist(), std.tolist(), strict=False)
        return [(feature.name, weight, weight / deviation) for feature, weight, deviation in rows]

    def tensors(self) -> dict[str, Tensor]:
        """What has to be kept to have it again."""
        scale = self.scale
        return {
            "style_mean": scale.style_mean,
            "style_std": scale.style_std,
            "state_mean": scale.state_mean,
            "components": scale.components,
            "mean": self.mean,
            "covariance": self.covariance,
        }


def fit(answers: Answers, up: Tensor, scale: Scale, config: RewardConfig) -> RewardModel:
    """The posterior after thumbs: `up` (N,) is 1 for a thumb up and 0 for one down. N = 0 gives the prior."""
    features = scale.features(answers).double()
    x = torch.cat([features, torch.ones(len(answers), 1, dtype=torch.double)], dim=1)  # (N, F + 1)
    target = config.flip + (1 - 2 * config.flip) * up.double()
    precision = _prior_precision(features.shape[1], config)
    weights = torch.zeros(x.shape[1], dtype=torch.double)
    hessian = torch.diag(precision)
    for _ in range(NEWTON_STEPS):  # Newton on a strictly convex function of a few dozen weights
        p = torch.sigmoid(x @ weights)
        hessian = torch.diag(precision) + (x * (p * (1 - p))[:, None]).T @ x
        step = torch.linalg.solve(hessian, x.T @ (target - p) - precision * weights)
        weights = weights + step
        if float(step.abs().max()) < 1e-9:
            break
    covariance = torch.linalg.inv(hessian)[:-1, :-1]
    return RewardModel(scale, weights[:-1].float(), covariance.float(), config.caution)


def _prior_precision(features: int, config: RewardConfig) -> Tensor:
    std = torch.full((features + 1,), config.state_std, dtype=torch.double)
    std[: len(FEATURES)] = config.style_std
    std[-1] = config.bias_std
    return std**-2


def auroc(scores: Tensor, up: Tensor, least: int = 1) -> float | None:
    """The chance that an answer with a thumb up scores above one with a thumb down (ties count half).

    None with fewer than `least` of either kind: too few to say.
    """
    good, bad = scores[up > 0.5], scores[up < 0.5]
    if min(len(good), len(bad)) < least:
        return None
    wins = (good[:, None] > bad[None, :]).double() + 0.5 * (good[:, None] == bad[None, :]).double()
    return float(wins.mean())
