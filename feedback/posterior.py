"""What is believed of a person after their thumbs: whom of a crowd they are like, and Laplace's method for weights.

Knows numbers and linear algebra; knows nothing of answers, features' meanings or disk. Pure: nothing random is drawn.

A thumb is up with probability ε + (1 − 2ε) σ(w·x): the person likes the answer by σ(w·x), and slips with probability ε.
A hypothesis says which kind of taste this is (which Gaussian the weights come from), how often the person slips, and
since when the taste has been what it is. Each gets Laplace's approximation of its posterior and of its evidence
(MacKay 1992, "The evidence framework applied to classification networks"; Bishop 2006, §4.4.1), with Fisher's
information for the Hessian, which the slips would else make indefinite. In the place of a kind a hypothesis may name
somebody of a crowd (crowd.py) whom this person is like: the chances of that one's thumbs are known, and the evidence is
their product. By their evidence all are weighed, and within each kind averaged to one Gaussian: thumbs that contradict
each other speak for a high ε, and so for weak weights; a taste that has turned round speaks for a recent turn, before
which thumbs count for nothing (Adams & MacKay 2007, "Bayesian online changepoint detection"). Beside them all stands
one without weights: thumbs that follow nothing.

Shapes: N thumbs, W weights (features, then the bias), J hypotheses, G kinds, E rates of slips, K turns, M people.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

STEPS = 100  # of scoring; it is over after some ten
TOLERANCE = 1e-6  # nats that a step still gains
HALVINGS = 8
TOGETHER = 64  # hypotheses at once, for a thousand thumbs take memory
FORGOTTEN = 1e-4  # of the likeliest kind's probability: a kind below is left out
JITTER = 1e-9  # of the mean variance
LEAST = 4  # thumbs on either side of a turn
AGES = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)  # thumbs ago at which a turn is looked for
NOBODY, SILENT = torch.empty(0), torch.empty(0, 0)  # where there is no crowd, and what it says


@dataclass(frozen=True)
class Gaussian:
    """Over weights: `mean` (..., W), `covariance` (..., W, W)."""

    mean: Tensor
    covariance: Tensor


@dataclass(frozen=True)
class Belief:
    """A mixture of Gaussians over weights: `share` (H,), `mean` (H, W), `covariance` (H, W, W); and of whom of a crowd
    this person is like: `people` (M,), their probabilities, which with `share` add up to 1. `aimless`: the probability
    that the thumbs follow nothing at all, and the mixture is of somebody else."""

    share: Tensor
    mean: Tensor
    covariance: Tensor
    people: Tensor = NOBODY
    aimless: float = 0.0

    @functools.cached_property
    def whole(self) -> Gaussian:
        """The one Gaussian of the same mean and covariance: what its parts differ in is uncertainty too."""
        share = self.share / self.share.sum()
        mean = share @ self.mean
        apart = self.mean - mean
        within = (share[:, None, None] * self.covariance).sum(0)
        return Gaussian(mean, within + (share[:, None] * apart).T @ apart)


@dataclass(frozen=True)
class Thumbs:
    """N rated answers: features with a last column of ones `x` (N, W), float64; `sign` (N,) +1 up or −1 down; `order`
    (N,): the how-manyeth thumb it was, for the oldest count for nothing once a taste has turned; `chance` (N, M): that
    each of a crowd would give a thumb up."""

    x: Tensor
    sign: Tensor
    order: Tensor
    chance: Tensor = SILENT


def believe(
    thumbs: Thumbs,
    kinds: Tensor,
    share: Tensor,
    flips: tuple[float, ...],
    hazard: float,
    aimless: float = 0.0,
    crowd: float = 0.0,
) -> Belief:
    """What the thumbs leave of the kinds: for each that is still likely, the average of its hypotheses; and of people.

    `kinds` (G, W, W): the prior covariances, with their probabilities `share` (G,); `flips`: rates of slips, equally
    likely before; `hazard`: how likely it is at each thumb that the taste turns there, between 0 and 1;
    `aimless`: how many people's thumbs follow nothing, as a share of all; `crowd`: how many are like one of the crowd,
    as a share of the others.
    """
    now = _spans(thumbs.order)  # (K + 1, N), the first without a turn
    fits = [_Fit.of(thumbs, span, kinds, flips) for span in now]
    alike = _alike(thumbs, now, flips, crowd)
    likely = (share.log() + math.log1p(-crowd) - math.log(len(flips)))[:, None]  # (G, 1)
    before = [0.0]  # in nats, where there is no turn to look for
    if len(now) > 1:  # none of them is likelier than another
        earlier = [_Fit.of(thumbs, ~span, kinds, flips).evidence for span in now[1:]]
        those = _alike(thumbs, ~now[1:], flips, crowd)
        steady = (1 + int(thumbs.order.max())) * math.log1p(-hazard)
        turned = math.log(-math.expm1(steady)) - math.log(len(earlier))
        of_turns = zip(earlier, those, strict=True)
        before = [steady, *(_sum(likely + fit, them) + turned for fit, them in of_turns)]
    joint = torch.stack([likely + fit.evidence + then for fit, then in zip(fits, before, strict=True)])
    with_people = alike + torch.tensor(before, dtype=torch.double)[:, None]  # (K + 1, M)
    whole = _sum(joint, with_people)
    of_kinds = joint.logsumexp(dim=(0, 2))  # (G,) may be hundreds of nats below the likeliest of a crowd
    kept = (of_kinds > of_kinds.max() + math.log(FORGOTTEN)).nonzero()[:, 0]
    weight = (joint - of_kinds[:, None]).exp()  # (K + 1, G, E)
    of_kind = [_average(fits, weight, kind) for kind in kept.tolist()]
    left, people = (of_kinds[kept] - whole).exp(), (with_people - whole).exp().sum(0)  # (H,), (M,)
    all_left = left.sum() + people.sum()
    return Belief(
        left / all_left,
        torch.stack([each.mean for each in of_kind]),
        torch.stack([each.covariance for each in of_kind]),
        people / all_left,
        _aimless(thumbs.sign, whole, aimless),
    )


def _alike(thumbs: Thumbs, spans: Tensor, flips: tuple[float, ...], crowd: float) -> Tensor:
    """(K, M) float64: the logarithm of how likely it is that this person is like one of the crowd, and gives the thumbs
    of each span (K, N); rates of slips are summed over."""
    people = thumbs.chance.shape[1]
    if not people:
        return torch.empty(len(spans), 0, dtype=torch.double)
    agreed = torch.where(thumbs.sign[:, None] > 0, thumbs.chance, 1 - thumbs.chance)  # (N, M)
    chances = ((flip + (1 - 2 * flip) * agreed).clamp_min(1e-30) for flip in flips)  # lazily, for memory
    given = torch.stack([spans.float() @ each.log() for each in chances])  # (E, K, M)
    return given.double().logsumexp(0) + math.log(crowd) - math.log(people * len(flips))


def _sum(of_kinds: Tensor, of_people: Tensor) -> float:
    """The logarithm of the sum of what these are logarithms of."""
    return float(torch.cat([of_kinds.flatten(), of_people.flatten()]).logsumexp(0))


def _aimless(sign: Tensor, evidence: float, before: float) -> float:
    """The probability that every thumb went up with one and the same chance, whatever the answer: any chance is as
    likely as another (Laplace's rule of succession), which these thumbs then had with probability u! d! / (n + 1)!."""
    ups, downs = int((sign > 0).sum()), int((sign < 0).sum())
    chance = math.lgamma(ups + 1) + math.lgamma(downs + 1) - math.lgamma(ups + downs + 2)
    return float(torch.sigmoid(torch.logit(torch.tensor(before, dtype=torch.double)) + chance - evidence))


@dataclass(frozen=True)
class _Fit:
    """All J = G·E hypotheses of one span of thumbs, kinds outermost, in as few coordinates as the thumbs tell apart.

    A kind's weights are w = T v, v ~ N(0, 1), plus what no thumb tells of. With n ≥ W thumbs T is the root of the
    kind's covariance C. With fewer, v has n numbers: K = X C Xᵀ = R Rᵀ, T = C Xᵀ R⁻ᵀ, and R has the thumbs' inputs, as
    in a Gaussian process (Rasmussen & Williams 2006, §2.1). `back` (G, W, r): T; `own`: what is believed of v (J, r);
    `evidence` (G, E).
    """

    kinds: Tensor
    back: Tensor
    own: Gaussian
    evidence: Tensor

    @staticmethod
    def of(thumbs: Thumbs, span: Tensor, kinds: Tensor, flips: tuple[float, ...]) -> _Fit:
        x, sign = thumbs.x[span], thumbs.sign[span]
        if 0 < len(x) < x.shape[1]:
            seen = x @ kinds  # (G, n, W)
            alike = seen @ x.T
            variance = alike.diagonal(dim1=1, dim2=2)
            variance += JITTER * variance.mean(dim=1, keepdim=True)  # for two answers may be the same
            inputs = torch.linalg.cholesky(alike)
            back = torch.linalg.solve_triangular(inputs, seen, upper=False).mT
        else:
            back = torch.linalg.cholesky(kinds)
            inputs = x @ back
        kind = torch.arange(len(kinds)).repeat_interleave(len(flips)).split(TOGETHER)
        flip = torch.tensor(flips, dtype=torch.double).repeat(len(kinds)).split(TOGETHER)
        fits = [laplace(inputs[some], sign, rate) for some, rate in zip(kind, flip, strict=True)]
        own = Gaussian(
            torch.cat([fit.mean for fit, _ in fits]), torch.cat([fit.covariance for fit, _ in fits])
        )
        evidence = torch.cat([each for _, each in fits]).view(len(kinds), len(flips))
        return _Fit(kinds, back, own, evidence)

    def weights(self, kind: int) -> Gaussian:
        """What is believed of the weights themselves, (E, W), for each rate of slips."""
        flips = self.evidence.shape[1]
        own, back = slice(kind * flips, (kind + 1) * flips), self.back[kind]
        known = torch.eye(back.shape[1], dtype=torch.double) - self.own.covariance[own]
        return Gaussian(self.own.mean[own] @ back.T, self.kinds[kind] - back @ known @ back.T)


def _average(fits: Sequence[_Fit], weight: Tensor, kind: int) -> Gaussian:
    """Of one kind over all spans and rates of slips, by their `weight` (K + 1, G, E)."""
    each = [fit.weights(kind) for fit in fits]
    means, covariances = torch.cat([one.mean for one in each]), torch.cat([one.covariance for one in each])
    return Belief(weight[:, kind].flatten(), means, covariances).whole


def laplace(x: Tensor, sign: Tensor, flip: Tensor) -> tuple[Gaussian, Tensor]:
    """For J hypotheses the posterior's mode (J, W) and covariance (J, W, W), and the logarithm of the evidence (J,).

    `x` (N, W) or (J, N, W), `sign` (N,) or (J, N), `flip` (J,). The weights' prior is N(0, 1). All float64.
    """
    weights = torch.zeros(len(flip), x.shape[-1], dtype=torch.double)
    seen = _Seen(x.expand(len(flip), -1, -1), sign.expand(len(flip), -1), flip[:, None])
    height = seen.height(weights)
    rising = torch.arange(len(flip))  # the others are at their modes, and cost nothing more
    for _ in range(STEPS):
        some = seen.under(rising)
        root = torch.linalg.cholesky(some.hessian(weights[rising]))
        step = torch.cholesky_solve(some.slope(weights[rising])[..., None], root)[..., 0]
        before = height[rising]
        weights[rising], height[rising] = some.climb(weights[rising], step, before)
        rising = rising[height[rising] - before >= TOLERANCE]
        if not len(rising):
            break
    root = torch.linalg.cholesky(seen.hessian(weights))
    return Gaussian(weights, torch.cholesky_inverse(root)), height - _half_log_det(root)


@dataclass(frozen=True)
class _Seen:
    """The logarithm of the posterior, but for a constant, and its slopes.

    `x` (J, N, W), `sign` (J, N), `flip` (J, 1).
    """

    x: Tensor
    sign: Tensor
    flip: Tensor

    def under(self, some: Tensor) -> _Seen:
        """Under some of the hypotheses."""
        return _Seen(self.x[some], self.sign[some], self.flip[some])

    def height(self, weights: Tensor) -> Tensor:
        """(J,)"""
        chance = self.flip + (1 - 2 * self.flip) * torch.sigmoid(self.sign * _times(self.x, weights))
        return chance.clamp_min(1e-300).log().sum(1) - weights.square().sum(1) / 2

    def slope(self, weights: Tensor) -> Tensor:
        """(J, W)"""
        agreed, change = self._chances(weights)
        pull = self.sign * change / agreed.clamp_min(1e-300)  # (J, N)
        return _times(self.x.mT, pull) - weights

    def hessian(self, weights: Tensor) -> Tensor:
        """(J, W, W): Fisher's information and the prior's precision; positive definite."""
        agreed, change = self._chances(weights)
        information = change**2 / (agreed * (1 - agreed)).clamp_min(1e-300)  # (J, N)
        return (information[:, None, :] * self.x.mT) @ self.x + torch.eye(
            self.x.shape[-1], dtype=torch.double
        )

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
        likes = torch.sigmoid(self.sign * _times(self.x, weights))
        return self.flip + (1 - 2 * self.flip) * likes, (1 - 2 * self.flip) * likes * (1 - likes)


def _spans(order: Tensor) -> Tensor:
    """(K + 1, N) bool: which thumbs speak of the taste as it is now, if it never turned, and for each possible turn."""
    newest = int(order.max()) if len(order) else 0
    spans = [torch.ones(len(order), dtype=torch.bool)]
    for age in AGES:
        after = order > newest - age
        if LEAST <= int(after.sum()) <= len(order) - LEAST:
            spans.append(after)
    return torch.stack(spans)


def _half_log_det(root: Tensor) -> Tensor:
    """(J,) of matrices, half the logarithm of their determinant, from their Cholesky factors."""
    return root.diagonal(dim1=1, dim2=2).log().sum(1)


def _times(matrices: Tensor, vectors: Tensor) -> Tensor:
    """(J, W, W), (J, W) → (J, W)"""
    return (matrices @ vectors[..., None])[..., 0]
