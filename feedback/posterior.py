"""What is believed of a person's weights after their thumbs: Laplace's method under several hypotheses at once.

Knows numbers and linear algebra; knows nothing of answers, features' meanings or disk. Pure: nothing random is drawn.

A thumb is up with probability ε + (1 − 2ε) σ(w·x): the person likes the answer by σ(w·x), and slips with probability ε.
A hypothesis says which kind of taste this is (which Gaussian the weights come from), how often the person slips, and
since when the taste has been what it is. Each gets Laplace's approximation of its posterior and of its evidence
(MacKay 1992, "The evidence framework applied to classification networks"; Bishop 2006, §4.4.1), with Fisher's
information for the Hessian, which the slips would else make indefinite. The hypotheses are averaged by their evidence:
thumbs that contradict each other speak for a high ε, and so for weak weights; a taste that has turned round speaks for
a recent turn, before which thumbs count for nothing (Adams & MacKay 2007, "Bayesian online changepoint detection").

Shapes: N thumbs, W weights (features, then the bias), J hypotheses, G kinds, E rates of slips, K turns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

STEPS = 100  # of scoring; it is over after some ten
TOLERANCE = 1e-6  # nats that a step still gains
HALVINGS = 8
TOGETHER = 64  # hypotheses at once, for a thousand thumbs take memory
LEAST = 4  # thumbs on either side of a turn
AGES = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)  # thumbs ago at which a turn is looked for


@dataclass(frozen=True)
class Belief:
    """A Gaussian over weights: `mean` (..., W), `covariance` (..., W, W)."""

    mean: Tensor
    covariance: Tensor


@dataclass(frozen=True)
class Thumbs:
    """N rated answers: features with a last column of ones `x` (N, W), float64; `sign` (N,) +1 up or −1 down; `order`
    (N,): the how-manyeth thumb it was, for the oldest count for nothing once a taste has turned."""

    x: Tensor
    sign: Tensor
    order: Tensor


def believe(thumbs: Thumbs, kinds: Tensor, share: Tensor, flips: tuple[float, ...], hazard: float) -> Belief:
    """The average of all hypotheses, as one Gaussian of the same mean and covariance.

    `kinds` (G, W, W): the prior covariances, with their probabilities `share` (G,); `flips`: rates of slips, equally
    likely before; `hazard`: how likely it is at each thumb that the taste turns there, between 0 and 1.
    """
    now = _spans(thumbs.order)  # (K + 1, N), the first without a turn
    spans = torch.cat([now, ~now[1:]])
    pairs = len(kinds) * len(flips)
    precision = torch.linalg.inv(kinds).repeat_interleave(len(flips), dim=0).repeat(len(spans), 1, 1)
    flip = torch.tensor(flips, dtype=torch.double).repeat(len(spans) * len(kinds))
    counted = spans.double().repeat_interleave(pairs, dim=0)  # (J, N)
    hypotheses = zip(counted.split(TOGETHER), flip.split(TOGETHER), precision.split(TOGETHER), strict=True)
    fits, evidences = zip(*(laplace(thumbs.x, thumbs.sign, *each) for each in hypotheses), strict=True)
    evidence = torch.cat(evidences)
    likely = share.log().repeat_interleave(len(flips)) - math.log(len(flips))
    joint = evidence.view(len(spans), pairs) + likely
    # in nats; among the turns none is likelier than another
    steady = (1 + _newest(thumbs.order)) * math.log1p(-hazard)
    turned = math.log(-math.expm1(steady)) - math.log(max(1, len(now) - 1))
    before = joint[len(now) :].logsumexp(dim=1) + turned  # (K,)
    stayed = torch.full((1,), steady, dtype=torch.double)
    weight = (joint[: len(now)] + torch.cat([stayed, before])[:, None]).flatten().softmax(dim=0)
    means, covariances = torch.cat([f.mean for f in fits]), torch.cat([f.covariance for f in fits])
    return _merged(means[: len(weight)], covariances[: len(weight)], weight)


def laplace(
    x: Tensor, sign: Tensor, counted: Tensor, flip: Tensor, precision: Tensor
) -> tuple[Belief, Tensor]:
    """For J hypotheses the posterior's mode (J, W) and covariance (J, W, W), and the logarithm of the evidence (J,).

    `x` (N, W), `sign` (N,) or (J, N), `counted` (J, N): how much each thumb counts; `flip` (J,); `precision` (J, W, W)
    of the prior, whose mean is 0. All float64.
    """
    weights = torch.zeros(len(counted), x.shape[1], dtype=torch.double)
    seen = _Seen(x, sign, counted, flip[:, None], precision)
    height = seen.height(weights)
    for _ in range(STEPS):
        root = torch.linalg.cholesky(seen.hessian(weights))
        step = torch.cholesky_solve(seen.slope(weights)[..., None], root)[..., 0]
        before = height
        weights, height = seen.climb(weights, step, before)
        if float((height - before).max()) < TOLERANCE:
            break
    root = torch.linalg.cholesky(seen.hessian(weights))
    evidence = height + _half_log_det(torch.linalg.cholesky(precision)) - _half_log_det(root)
    return Belief(weights, torch.cholesky_inverse(root)), evidence


@dataclass(frozen=True)
class _Seen:
    """The logarithm of the posterior, but for a constant, and its slopes. `flip` (J, 1)."""

    x: Tensor
    sign: Tensor
    counted: Tensor
    flip: Tensor
    precision: Tensor

    def height(self, weights: Tensor) -> Tensor:
        """(J,)"""
        chance = self.flip + (1 - 2 * self.flip) * torch.sigmoid(self.sign * (weights @ self.x.T))
        prior = (weights * _times(self.precision, weights)).sum(1) / 2
        return (self.counted * chance.clamp_min(1e-300).log()).sum(1) - prior

    def slope(self, weights: Tensor) -> Tensor:
        """(J, W)"""
        agreed, change = self._chances(weights)
        pull = self.counted * self.sign * change / agreed.clamp_min(1e-300)  # (J, N)
        return pull @ self.x - _times(self.precision, weights)

    def hessian(self, weights: Tensor) -> Tensor:
        """(J, W, W): Fisher's information and the prior's precision; positive definite."""
        agreed, change = self._chances(weights)
        information = self.counted * change**2 / (agreed * (1 - agreed)).clamp_min(1e-300)  # (J, N)
        return (information[:, None, :] * self.x.T) @ self.x + self.precision

    def climb(self, weights: Tensor, step: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """Along the step as far as it goes up, half as far where it goes down; and the height there."""
        size = torch.ones(len(weights), 1, dtype=torch.double)
        for _ in range(HALVINGS):
            height = self.height(weights + size * step)
            worse = height < start
            if not bool(worse.any()):
                break
            size[worse] /= 2
        moved = weights + size * step.masked_fill(worse[:, None], 0)
        return moved, torch.where(worse, start, height)

    def _chances(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """(J, N) each: that the thumb is as it is, and how that changes with w·x towards it."""
        likes = torch.sigmoid(self.sign * (weights @ self.x.T))
        return self.flip + (1 - 2 * self.flip) * likes, (1 - 2 * self.flip) * likes * (1 - likes)


def _spans(order: Tensor) -> Tensor:
    """(K + 1, N) bool: which thumbs speak of the taste as it is now, if it never turned, and for each possible turn."""
    newest = _newest(order)
    spans = [torch.ones(len(order), dtype=torch.bool)]
    for age in AGES:
        after = order > newest - age
        if LEAST <= int(after.sum()) <= len(order) - LEAST:
            spans.append(after)
    return torch.stack(spans)


def _newest(order: Tensor) -> int:
    return int(order.max()) if len(order) else 0


def _merged(means: Tensor, covariances: Tensor, weight: Tensor) -> Belief:
    """A mixture's mean and covariance: what its Gaussians differ in is uncertainty too."""
    mean = weight @ means
    apart = means - mean
    within = (weight[:, None, None] * covariances).sum(0)
    return Belief(mean, within + (weight[:, None] * apart).T @ apart)


def _half_log_det(root: Tensor) -> Tensor:
    """(J,) of matrices, half the logarithm of their determinant, from their Cholesky factors."""
    return root.diagonal(dim1=1, dim2=2).log().sum(1)


def _times(matrices: Tensor, vectors: Tensor) -> Tensor:
    """(J, W, W), (J, W) → (J, W)"""
    return (matrices @ vectors[..., None])[..., 0]
