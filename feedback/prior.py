"""What people's tastes have in common, before a person has said anything: a prior over a reward model's weights.

Knows numbers that were learnt offline from simulated people (benchmarks/make_prior.py) and ship as prior.safetensors;
knows no taste, and nothing of any person whom the service has met. There are G kinds of tastes, each a Gaussian

    w ~ N(0, B Bᵀ + diag(s²))

with a low-rank basis B that people share, as in LoRe (Bose et al. 2025, "LoRe: Personalizing LLMs via Low-Rank Reward
Modeling") and PReF (Shenfeld et al. 2025, "Language Model Personalization via Reward Factorization"), and what is
left to a person alone, s. The mean is 0: what most simulated people happened to like is nobody's wish.

A Gaussian over many features believes that each of them matters a little. Many tastes hang on one alone, and strongly;
so for each feature of style there is a kind whose weight may be large and the others' hardly anything (a spike and a
slab: Mitchell & Beauchamp 1988; George & McCulloch 1993). Which feature that is, the thumbs say.

For a weight to mean the same with everybody, a feature's unit is the same for everybody: the deviation of each style
feature, and a fixed projection of the base model's hidden states. The projection belongs to one base model. With
another, or once style.py has other features than the file, that part begins from a diagonal prior instead.

Shapes: G kinds, F = S + C features (S of style, C components of hidden states), R columns of a basis; D hidden.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import torch
from safetensors import safe_open
from torch import Tensor

from feedback.style import FEATURES

log = logging.getLogger(__name__)

FILE = "prior.safetensors"
SINGLE_STD = 5.0  # of the weight of a feature that a taste hangs on, log-odds a deviation of it
BESIDE = 0.3  # of everybody's deviations, of the other weights of such a taste


@dataclass(frozen=True)
class Prior:
    """`share` (G,) how common each kind is; `basis` (G, F, R), `rest` (G, F) deviations; `bias` a deviation.

    `unit` (S,) and `projection` (D, C) are None where each person's answers give them instead. `single`: how common
    tastes are that hang on one feature, all together.
    """

    share: Tensor
    basis: Tensor
    rest: Tensor
    bias: float
    unit: Tensor | None
    projection: Tensor | None
    single: float = 0.6

    def covariances(self) -> Tensor:
        """(G, F + 1, F + 1) of the weights and, last, the bias; float64."""
        kinds, features = self.rest.shape
        out = torch.zeros(kinds, features + 1, features + 1, dtype=torch.double)
        basis = self.basis.double()
        out[:, :-1, :-1] = basis @ basis.mT + torch.diag_embed(self.rest.double() ** 2)
        out[:, -1, -1] = self.bias**2
        return out

    def kinds(self) -> tuple[Tensor, Tensor]:
        """All kinds, those of one feature of style last: covariances (G + S, F + 1, F + 1), and how common (G + S,)."""
        common, share = self.covariances(), self.share.double()
        beside = BESIDE**2 * (share[:, None, None] * common).sum(0)
        beside[-1, -1] = self.bias**2
        single = beside.repeat(len(FEATURES), 1, 1)
        each = range(len(FEATURES))
        single[each, each, each] += SINGLE_STD**2
        shares = torch.full((len(single),), self.single / len(single), dtype=torch.double)
        return torch.cat([common, single]), torch.cat([(1 - self.single) * share, shares])


@dataclass(frozen=True)
class Alone:
    """What is believed of a person without a prior learnt from others: deviations of weights that know nothing of each
    other. `components`: how many directions of hidden states are kept, C."""

    components: int
    style: float
    state: float
    bias: float

    def prior(self) -> Prior:
        """One kind; each person's answers give the units."""
        rest = torch.tensor([[self.style] * len(FEATURES) + [self.state] * self.components])
        return Prior(torch.ones(1), torch.zeros(1, rest.shape[1], 0), rest, self.bias, None, None)

    def beside(self, learnt: Prior) -> Prior:
        """The style part of a learnt prior, and this for the hidden states."""
        kinds, style = len(learnt.share), len(FEATURES)
        basis = torch.zeros(kinds, style + self.components, learnt.basis.shape[2])
        basis[:, :style] = learnt.basis[:, :style]
        rest = torch.full((kinds, style + self.components), self.state)
        rest[:, :style] = learnt.rest[:, :style]
        return Prior(learnt.share, basis, rest, learnt.bias, learnt.unit, None)


@functools.cache
def for_model(digest: str, alone: Alone) -> Prior:
    """The shipped prior, as far as it fits this base model and this code's features."""
    learnt, model, features = shipped()
    if features != [feature.name for feature in FEATURES]:
        log.warning(
            "the shipped prior is of other style features: every reward model begins from a diagonal one"
        )
        return alone.prior()
    assert learnt.projection is not None
    if model != digest or learnt.projection.shape[1] != alone.components:
        log.info("the shipped prior reads another base model's states: only its style part is used")
        return alone.beside(learnt)
    return learnt


@functools.cache
def shipped() -> tuple[Prior, str, list[str]]:
    """The prior as it ships, the digest of the base model whose states it reads, and its style features' names."""
    with (
        resources.as_file(resources.files("feedback") / FILE) as path,
        safe_open(path, framework="pt") as file,
    ):
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
        meta = file.metadata()
    prior = Prior(
        tensors["share"], tensors["basis"], tensors["rest"], float(tensors["bias"]), tensors["unit"],
        tensors["projection"],
    )  # fmt: skip
    return prior, meta["base_model"], json.loads(meta["features"])


def tensors(prior: Prior) -> dict[str, Tensor]:
    """What a file holds of a prior that has units and a projection of its own."""
    assert prior.unit is not None and prior.projection is not None, "only a learnt prior is shipped"
    return {
        "share": prior.share,
        "basis": prior.basis.contiguous(),
        "rest": prior.rest,
        "bias": torch.tensor(prior.bias),
        "unit": prior.unit,
        "projection": prior.projection.contiguous(),
    }


def meta(digest: str, features: Sequence[str]) -> dict[str, str]:
    """What a file says of itself."""
    return {"base_model": digest, "features": json.dumps(list(features))}
