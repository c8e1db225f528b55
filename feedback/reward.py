"""One person's reward model: how that person would like an answer, and how sure that is.

Knows features, thumbs and linear algebra; knows nothing of Redis, rollouts or PPO. Pure: the same inputs give the same
model, and nothing random is drawn.

The model is a mixture (posterior.py): this person may be like somebody of a crowd of simulated people (crowd.py), or
have a taste of their own, a Bayesian logistic regression whose prior is what people's tastes have in common (prior.py).
For that an answer's features are its style (style.py) and the base model's last hidden states over it, averaged and
projected to a few numbers. What is not known yet stands in the people who are left, and in the covariance.

An answer is worth the log-odds that this person likes it more than the base model's answer to the same prompt (Bradley
& Terry 1952), at a lower confidence bound, so that PPO is not paid for going where nobody has judged (Coste et al. 2023
use an ensemble's spread alike), and averaged over what is not known of the weights (MacKay 1992, "moderated outputs"):
    r(x) = logit Σₕ pₕ σ((mₕ − c·sₕ) / √(1 + π sₕ² / 8)),   mₕ = wₕᵀΔ, sₕ² = Δᵀ Sₕ Δ,   Δ = φ(x) − φ(base's answer)
over the kinds of taste h that the thumbs leave, of probability pₕ: a kind in which little is known of what sets the
answers apart costs its share of certainty and no more. Somebody of the crowd stands among them with a known worth, sₕ =
0 and mₕ = how much more that one makes of the answer, in deviations; in the place of c·sₕ, the deviation of what these
people say, of their σ, is taken off the chance c times. Sₕ is Laplace's covariance with half of its deviations, for
whole ones were measured to doubt too much (docs/log.md). However far an answer goes in a direction, it is paid no more
than the direction is certain; without the root, the farthest answer would be the best one, sure or not. With nothing
but thumbs down, staying near what was judged is what the person does not want: then the bound is the upper one, so that
the next answers are different ones and their thumbs tell more (optimism, as in LinUCB: Li et al. 2010).

Shapes: N answers, F = S + C features: S of style, C components of hidden states; D hidden; H kinds of taste; M people,
K columns of counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from feedback.company import Company, resampled
from feedback.features import Answers, Scale
from feedback.posterior import Belief, Thumbs, believe
from feedback.prior import Alone, Prior, for_model
from feedback.style import FEATURES

KEENNESS = 1.0  # log-odds that an answer is liked more, a deviation of what a person makes of answers
LEAST = 1e-6  # of a probability


@dataclass(frozen=True)
class RewardConfig:
    """Standard deviations are of a weight's prior where the shared one does not reach (prior.py), in log-odds per
    standard deviation of its feature."""

    components: int = 12  # numbers that hidden states are reduced to, ≥ 0
    style_std: float = 0.8  # > 0
    state_std: float = 0.25  # > 0
    bias_std: float = 1.5  # > 0
    flips: tuple[float, ...] = (0.02, 0.1, 0.25)  # shares of thumbs that may be slips, 0 to 0.5: averaged
    crowd: float = 0.8  # share of people who are like one of the crowd, before any thumb, ≥ 0 and < 1
    aimless: float = 0.25  # share of people whose thumbs follow nothing, before they have given any, 0 to 1
    hazard: float = 0.007  # chance at each thumb that the taste turns there, between 0 and 1
    spread: float = 0.5  # of Laplace's deviations, > 0: whole ones doubt what holds (docs/log.md)
    caution: float = 0.5  # c: standard deviations taken off the reward, ≥ 0
    curiosity: float = 1.0  # standard deviations added instead, after thumbs down alone, ≥ 0
    reach: float = 3.0  # standard deviations at which a feature is held, > 0: no reward beyond what was seen
    auroc_least: int = 3  # held-out thumbs of each kind below which no AUROC is given, ≥ 1

    @property
    def alone(self) -> Alone:
        """The prior where nothing is shared."""
        return Alone(self.components, self.style_std, self.state_std, self.bias_std)


def shared(digest: str, config: RewardConfig) -> Prior:
    """What is believed of everybody beforehand, on the base model of this digest."""
    return for_model(digest, config.alone)


@dataclass(frozen=True)
class RewardModel:
    """What is `believed`: of the weights of H kinds of taste, (H, F), the bias integrated out; and of the `company`,
    whom of M people this one is like.

    `spread`: of an answer's deviation, how much is believed. `caution`: deviations that are taken off the reward;
    negative, and so added, after thumbs down alone.
    """

    scale: Scale
    believed: Belief
    spread: float
    caution: float
    company: Company

    def worth(self, answers: Answers, base: Answers) -> tuple[Tensor, Tensor]:
        """By the kinds, how much better answers are than the base's, log-odds of a thumb up: mean and deviation
        (N, H)."""
        return self._worth_of(self._apart(answers, base))

    def _apart(self, answers: Answers, base: Answers) -> Tensor:
        """(N, F)"""
        return self.scale.features(answers) - self.scale.features(base)

    def _worth_of(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """(N, F) → mean and deviation (N, H)"""
        variance = ((delta @ self.believed.covariance) * delta).sum(2).T
        return delta @ self.believed.mean.T, self.spread * variance.clamp_min(0).sqrt()

    def _ahead(self, answers: Answers, base: Answers) -> Tensor:
        """(N, M) how much more people make of answers than of the base's, in deviations."""
        people = self.company.people
        if not len(people):
            return torch.empty(len(answers), 0)
        return (people.scores(answers.counts) - people.scores(base.counts)) / people.unit

    def liking(self, answers: Answers, base: Answers, caution: float = 0.0) -> Tensor:
        """(N,) the log-odds that answers are liked more than the base's; see the module. `caution`: c."""
        mean, std = self.worth(answers, base)
        odds = (mean - caution * std) / (1 + math.pi / 8 * std**2).sqrt()
        share, people = self.believed.share, self.believed.people
        ahead = KEENNESS * self._ahead(answers, base)
        more, less = (
            torch.sigmoid(sign * odds) @ share + torch.sigmoid(sign * ahead) @ people for sign in (1, -1)
        )
        doubt = caution * self._disagreement(torch.sigmoid(ahead))
        doubt = torch.minimum(torch.maximum(doubt, -less / 2), more / 2)  # no chance is doubted away
        return (more - doubt).log() - (less + doubt).log()

    def _disagreement(self, chance: Tensor) -> Tensor:
        """(N,) the deviation of what people (N, M) say, as far as this person is like one of them at all."""
        people = self.believed.people
        if not len(people):
            return torch.zeros(len(chance))
        mean = chance @ people / people.sum()
        return people.sum() * ((chance - mean[:, None]).square() @ people / people.sum()).sqrt()

    def reward(self, answers: Answers, base: Answers) -> Tensor:
        """(N,) the lower confidence bound of `liking`; the upper one after thumbs down alone."""
        return self.liking(answers, base, self.caution)

    def prospect(self, answers: Answers, base: Answers) -> Tensor:
        """(N,) by what the gate judges: `liking`, and after thumbs down alone its upper bound. By the mean, all that is
        different is then as good as the base, so nothing would ever pass and no other thumb could come."""
        return self.liking(answers, base, min(self.caution, 0.0))

    def sureness(self, answers: Answers, base: Answers) -> Tensor:
        """(N,) the probability that each answer is liked more than the base's, if the thumbs follow anything."""
        return self._sure(self._apart(answers, base), self._ahead(answers, base), 0.0)

    def _sure(self, apart: Tensor, ahead: Tensor, bold: float) -> Tensor:
        """(N, F), (N, M) → (N,); `bold`: deviations by which what is not known is taken for better."""
        mean, std = self._worth_of(apart)
        by_kinds = torch.special.ndtr(mean / std.clamp_min(1e-9) + bold) @ self.believed.share
        crowd = self.believed.people.sum().clamp_min(1e-9)
        for_it = (ahead.sign() + 1) / 2 @ self.believed.people / crowd
        shifted = torch.special.ndtr(torch.special.ndtri(for_it.clamp(LEAST, 1 - LEAST)) + bold)
        return by_kinds + self.believed.people.sum() * (shifted if bold else for_it)

    def certainty(self, answers: Answers, base: Answers) -> float:
        """The probability that this person likes the answers, taken together, more than the base's: a half, should the
        thumbs follow nothing. After thumbs down alone that of the upper bound, as in `prospect`."""
        bold, aimless = -min(self.caution, 0.0), self.believed.aimless
        apart, ahead = self._apart(answers, base).mean(0, True), self._ahead(answers, base).mean(0, True)
        follows = self._sure(apart, ahead, bold)
        by_chance = torch.special.ndtr(torch.tensor(bold))
        return float((1 - aimless) * follows + aimless * by_chance)

    def preference(self, answers: Answers) -> Tensor:
        """(N,) log-odds of a thumb up, but for a constant: for ranking answers to different prompts."""
        kinds, people = (
            torch.sigmoid(self.scale.features(answers) @ self.believed.mean.T),
            self.company.people,
        )
        likely = kinds @ self.believed.share
        if len(people):
            likely = likely + people.chance(answers.counts) @ self.believed.people
        return torch.logit(likely.clamp(LEAST, 1 - LEAST))

    def beliefs(self) -> list[tuple[str, float, float]]:
        """Of each style feature: its name, log-odds a standard deviation, the probability that their sign is right.
        Somebody of the crowd to whom it is all the same is of either opinion by half, and so are thumbs that follow
        nothing."""
        believed, leans = self.believed, self.company.leans
        std = believed.covariance.diagonal(dim1=1, dim2=2).clamp_min(1e-12).sqrt()
        by_kinds = believed.share @ torch.special.ndtr(believed.mean / std)
        follows = by_kinds + believed.people @ ((leans.sign() + 1) / 2)
        above = (1 - believed.aimless) * follows + believed.aimless / 2
        weights = believed.share @ believed.mean + believed.people @ leans
        rows = zip(FEATURES, weights.tolist(), above.tolist(), strict=False)
        return [(feature.name, weight, p if weight > 0 else 1 - p) for feature, weight, p in rows]

    def tensors(self) -> dict[str, Tensor]:
        """What has to be kept to have it again."""
        scale, people = self.scale, self.company.people
        return {
            "style_mean": scale.style_mean,
            "style_std": scale.style_std,
            "state_mean": scale.state_mean,
            "components": scale.components,
            "share": self.believed.share,
            "aimless": torch.tensor(self.believed.aimless),
            "mean": self.believed.mean,
            "covariance": self.believed.covariance,
            "people": self.believed.people,
            "leans": self.company.leans.half(),
            **{f"people.{name}": tensor for name, tensor in people.tensors().items()},
        }


def fit(
    answers: Answers,
    up: Tensor,
    scale: Scale,
    config: RewardConfig,
    prior: Prior,
    order: Tensor | None = None,
    company: Company | None = None,
) -> RewardModel:
    """The posterior after thumbs: `up` (N,) is 1 for a thumb up and 0 for one down. N = 0 gives the prior.

    `order` (N,): the how-manyeth thumb each is; without it they come as they were given, the oldest first. `company`:
    whom this person may be like.
    """
    features = scale.features(answers).double()
    x = torch.cat([features, torch.ones(len(answers), 1, dtype=torch.double)], dim=1)  # (N, F + 1)
    company = company or Company.nobody(features.shape[1])
    crowd = config.crowd if len(company.people) else 0.0
    chance = company.people.chance(answers.counts) if crowd else torch.empty(len(answers), 0)
    given = torch.arange(len(up)) if order is None else order
    thumbs = Thumbs(x, up.double() * 2 - 1, given, chance)
    now = believe(thumbs, *prior.kinds(), config.flips, config.hazard, config.aimless, crowd)
    kept, people = resampled(now.people.float())
    only_down = len(up) > 0 and not bool(up.any())
    return RewardModel(
        scale,
        replace(
            now,
            share=now.share.float(),
            mean=now.mean[:, :-1].float(),
            covariance=now.covariance[:, :-1, :-1].float(),
            people=people,
        ),
        config.spread,
        -config.curiosity if only_down else config.caution,
        company.some(kept),
    )
