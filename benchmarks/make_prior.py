"""`python -m benchmarks.make_prior`: learns feedback/prior.safetensors from simulated people, offline, in minutes.

Knows the answers that simulated people read (prior_corpus.py), what each likes (prior_tastes.py), and how a prior is
learnt from that by empirical Bayes:

    units       the deviation of each style feature, and a projection of hidden states on what people's likes hang on
                beyond style: reduced-rank regression (Izenman 1975) of their scores on the states' main directions
    summaries   each person's plentiful thumbs as one Gaussian factor over weights (posterior.py)
    kinds       a mixture of Gaussians under these factors by expectation and maximisation, begun from the families
                that tastes were drawn from; each kind then as a factor analysis, B Bᵀ + diag(s²)
                (Ghahramani & Hinton 1996; Yu, Tresp & Schwaighofer 2005 learn one Gaussian from many tasks so)
    choice      rank of B and size of the weights: what foretells best how people whom the kinds were not learnt from
                like other answers, after 10 and after 40 of their thumbs, of which 10 % are slips

The people here are drawn, not met: nothing of a user of the service is used.

Shapes: K people, N answers, F features, G kinds, R columns of a basis.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from safetensors.torch import save
from torch import Generator, Tensor

from adapters import disk
from benchmarks import prior_corpus, prior_tastes
from benchmarks.prior_corpus import Corpus
from benchmarks.results import Say
from benchmarks.workload import ROOT
from feedback import prior
from feedback.features import Scale
from feedback.posterior import Belief, Gaussian, Thumbs, believe, laplace
from feedback.prior import Prior
from feedback.reward import RewardConfig
from feedback.style import FEATURES

FILE = ROOT / "feedback" / prior.FILE
PEOPLE, CHECKED, SEED = 240, 20, 1  # the last CHECKED of them are only foretold
LEAST_UNIT = 0.03  # of a feature that hardly varies in base answers: about one word in a thousand, as a root
DIRECTIONS = 64  # of hidden states, before the regression
RIDGE = 0.1  # of that regression, as a share of the number of answers
BROAD, BROAD_BIAS = 1.5, 3.0  # deviations under which a person's plentiful thumbs are summarised
SLIPS = 0.02  # in the thumbs that are summarised: what the features cannot see
TOGETHER = 32  # people summarised at once
SWEEPS = 8  # of expectation and maximisation
POOLED = 8.0  # people's worth of everybody's covariance in each kind's
LEAST_REST = 0.1  # s: nothing is ruled out
RANKS, SIZES = (2, 6), (0.3, 0.5, 0.7, 1.0)
CHECKS, FLIPPED = (10, 40), 0.1


def main() -> None:
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {text}", flush=True)

    corpus = prior_corpus.to_learn_from(say)
    learnt = learn(corpus, PEOPLE, say)
    names = [feature.name for feature in FEATURES]
    disk.replace(FILE, save(prior.tensors(learnt), metadata=prior.meta(corpus.model, names)))
    say(f"written: {FILE.relative_to(ROOT)}, {FILE.stat().st_size // 1024} kB")


def learn(corpus: Corpus, number: int, say: Say) -> Prior:
    """The prior from so many people who have read the corpus."""
    people = prior_tastes.draw(corpus.texts, number, SEED)
    up = prior_corpus.liked(people, corpus.texts)
    scores = torch.tensor([[person.score(text) for text in corpus.texts] for person in people])
    say(f"{number} people read {len(corpus)} answers and like {float(up.mean()):.0%} of them")
    taught = number - CHECKED
    units = _units(corpus, scores[:taught])
    x = _inputs(corpus, units)
    factors, bias = _summaries(x, up[:taught])
    say("their thumbs are summarised")
    share, covariance = _kinds(factors, [prior_tastes.KINDS.index(person.kind) for person in people[:taught]])
    say("shares of kinds: " + ", ".join(f"{each:.2f}" for each in share.tolist()))
    return _best(replace(units, share=share, bias=bias), covariance, x, up[taught:], say)


def _units(corpus: Corpus, scores: Tensor) -> Prior:
    """A prior that has its units and its projection, and nothing else yet."""
    unit = corpus.read.style.std(dim=0).clamp_min(LEAST_UNIT)
    states = corpus.read.states - corpus.read.states.mean(dim=0)
    _, spread, directions = torch.linalg.svd(states, full_matrices=False)
    whiten = (directions[:DIRECTIONS] / spread[:DIRECTIONS, None]).T * len(states) ** 0.5  # (D, 64)
    style = (corpus.read.style - corpus.read.style.mean(dim=0)) / unit
    likes = (scores - scores.mean(dim=1, keepdim=True)).T  # (N, K)
    likes = likes / likes.std(dim=0)
    known = style.T @ style + RIDGE * len(style) * torch.eye(style.shape[1])
    beyond = likes - style @ torch.linalg.solve(known, style.T @ likes)
    slopes = (
        (states @ whiten).T @ beyond / (len(states) * (1 + RIDGE))
    )  # (64, K), ridge: the inputs are white
    found = torch.linalg.svd(slopes, full_matrices=False).U[:, : RewardConfig().components]
    empty = torch.zeros(0)
    return Prior(empty, empty, empty, 0.0, unit, whiten @ found)


def _inputs(corpus: Corpus, units: Prior) -> Tensor:
    """(N, F + 1) features and a one, float64."""
    features = Scale.of(corpus.read, RewardConfig(), units).features(corpus.read)
    return torch.cat([features, torch.ones(len(features), 1)], dim=1).double()


@dataclass(frozen=True)
class Factors:
    """What K people's thumbs say of their weights: log-likelihood −½ wᵀΛw + ηᵀw, `precision` Λ (K, F, F), `pull` η."""

    precision: Tensor
    pull: Tensor


def _summaries(x: Tensor, up: Tensor) -> tuple[Factors, float]:
    """Each person's thumbs on all answers as a Gaussian factor; and the deviation of people's biases."""
    broad = torch.full((x.shape[1],), BROAD, dtype=torch.double)
    broad[-1] = BROAD_BIAS
    means, covariances = [], []
    for some in up.double().split(TOGETHER):
        found, _ = laplace(x * broad, 2 * some - 1, torch.full((len(some),), SLIPS, dtype=torch.double))
        means.append(found.mean * broad)
        covariances.append(found.covariance * broad[:, None] * broad)
    mean, covariance = torch.cat(means), torch.cat(covariances)
    bias = float((mean[:, -1] ** 2 + covariance[:, -1, -1]).mean().sqrt())
    known = torch.linalg.inv(covariance[:, :-1, :-1])
    pull = (known @ mean[:, :-1, None])[..., 0]
    return Factors(known - torch.diag(broad[:-1] ** -2), pull), bias


def _kinds(factors: Factors, families: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The shares (G,) and covariances (G, F, F) of a mixture of zero-mean Gaussians."""
    kinds = len(prior_tastes.KINDS)
    belongs = torch.nn.functional.one_hot(torch.tensor(families), kinds).double()  # (K, G)
    features = factors.pull.shape[1]
    covariance = torch.eye(features, dtype=torch.double).expand(kinds, -1, -1)
    share = torch.full((kinds,), 1 / kinds, dtype=torch.double)
    for sweep in range(SWEEPS):
        evidence, moments = [], []
        for kind in covariance:
            found, likely = under(factors, kind)
            moments.append(found.covariance + found.mean[:, :, None] * found.mean[:, None, :])  # (K, F, F)
            evidence.append(likely)
        if sweep:
            belongs = (torch.stack(evidence, dim=1) + share.log()).softmax(dim=1)
        sums = torch.stack([torch.tensordot(belongs[:, g], moments[g], 1) for g in range(kinds)])  # (G, F, F)
        everybody = sums.sum(0) / len(belongs)
        size = belongs.sum(0)
        covariance = (sums + POOLED * everybody) / (size + POOLED)[:, None, None]
        share = (size + 1) / (len(belongs) + kinds)
    return share, covariance


def under(factors: Factors, covariance: Tensor) -> tuple[Gaussian, Tensor]:
    """Of each person, the weights if they come from this Gaussian, and how likely the thumbs are then (K,)."""
    root = torch.linalg.cholesky(factors.precision + torch.linalg.inv(covariance))
    mean = torch.cholesky_solve(factors.pull[:, :, None], root)[..., 0]
    spread = root.diagonal(dim1=1, dim2=2).log().sum(1) + torch.logdet(covariance) / 2  # ½ log |1 + ΣΛ|
    return Gaussian(mean, torch.cholesky_inverse(root)), (factors.pull * mean).sum(1) / 2 - spread


def _best(begun: Prior, covariance: Tensor, x: Tensor, up: Tensor, say: Say) -> Prior:
    """The rank that foretells best, and then the size."""

    def tried(rank: int, size: float) -> Prior:
        basis, rest = factored(covariance * size**2, rank)
        return replace(begun, share=begun.share.float(), basis=basis.float(), rest=rest.float())

    def gained(rank: int, size: float) -> float:
        nats = foretold(tried(rank, size), x, up)
        say(f"rank {rank}, size {size}: {nats:.4f} nats an answer")
        return nats

    rank = max(RANKS, key=lambda each: gained(each, 1.0))
    return tried(rank, max(SIZES, key=lambda each: gained(rank, each)))


def factored(covariance: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """(G, F, F) → a basis (G, F, R) and deviations (G, F), by principal factors: Σ ≈ B Bᵀ + diag(s²)."""
    diagonal = covariance.diagonal(dim1=1, dim2=2)
    rest = diagonal / 2
    for _ in range(50):
        values, vectors = torch.linalg.eigh(covariance - torch.diag_embed(rest))
        basis = vectors[..., -rank:] * values[:, None, -rank:].clamp_min(0).sqrt()
        rest = (diagonal - basis.square().sum(2)).clamp_min(LEAST_REST**2)
    return basis, rest.sqrt()


def foretold(tried: Prior, x: Tensor, up: Tensor) -> float:
    """Mean log-probability of what people (K, N) like among the answers that they have not rated, nats an answer."""
    generator = Generator().manual_seed(SEED)
    config = RewardConfig()
    gained = []
    for person in up:
        for thumbs in CHECKS:
            order = torch.randperm(len(x), generator=generator)
            rated, others = order[:thumbs], order[thumbs:]
            slip = torch.rand(thumbs, generator=generator) < FLIPPED
            sign = torch.where(slip, -1.0, 1.0).double() * (2 * person[rated].double() - 1)
            given = Thumbs(x[rated], sign, torch.zeros(thumbs))
            now = believe(given, *tried.kinds(), config.flips, config.hazard)
            gained.append(float(_log_chance(now, x[others], 2 * person[others].double() - 1).mean()))
    return sum(gained) / len(gained)


def _log_chance(now: Belief, x: Tensor, sign: Tensor) -> Tensor:
    """(N,) of these likes, the weights integrated out (MacKay 1992, eq. 10)."""
    mean, variance = x @ now.mean.T, ((x @ now.covariance) * x).sum(2).T  # (N, H)
    likely = torch.nn.functional.logsigmoid(sign[:, None] * mean / (1 + math.pi * variance / 8).sqrt())
    return (likely + now.share.log()).logsumexp(dim=1)


if __name__ == "__main__":
    main()
