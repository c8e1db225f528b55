"""A crowd of simulated people: what is believed of everybody before a person has given a thumb, each a whole taste.

Knows people as numbers: what each of them counts in an answer (counts.py), how much of it is enough, when their thumb
goes up. They were drawn at random, offline (benchmarks/make_crowd.py), and ship as crowd.safetensors; nobody whom the
service has met is among them. "Much" and "little" are shares of what the base model answers to a person's own prompts,
so that the same crowd fits any length of answers and any base model.

A person's thumbs say which of them that person is like (posterior.py): importance weights of draws from a prior (Rubin
1988, sampling/importance resampling). So thresholds, middles and combinations are hypotheses as they are, where a
Gaussian over weights would have to come near them by a straight line.

Shapes: M people, P parts that one looks at, N answers, K columns of counts.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import torch
from safetensors import safe_open
from torch import Tensor

from feedback.counts import SHAPES, Families, count

FILE = "crowd.safetensors"
FIRMNESS = 4.0  # log-odds of a thumb a deviation of what a person makes of answers
LIKED = (0.2, 0.8)  # least and greatest share of usual answers that somebody likes who takes part
LEAST_UNIT = 0.05
TOGETHER = 64  # answers that a whole crowd reads at once, for memory


@dataclass(frozen=True)
class Crowd:
    """`column` (M, P): each part's statistic; `none`, `full` (M, P): at which share of usual answers it is worth
    nothing, and all, 0 to 1; `beyond` (M, P): how much farther than that, as a share of the way; `weight` (M, P): of
    the parts in the sum, 0 where a person looks at fewer; `product` (M,): whether a geometric mean takes the sum's
    place; `threshold` (M,): the share of usual answers that get no thumb up."""

    column: Tensor
    none: Tensor
    full: Tensor
    beyond: Tensor
    weight: Tensor
    product: Tensor
    threshold: Tensor

    def __len__(self) -> int:
        return len(self.threshold)

    def among(self, usual: Tensor) -> People:
        """These people, used to such answers: counts (N, K). What is much and what is little depends on that."""
        ordered = usual.sort(dim=0).values
        none, full = (_quantile(ordered, self.column, share) for share in (self.none, self.full))
        # Where both levels are the same, as of what most answers have none of: any at all, or none at all.
        step, same, falls = _next(ordered, self.column, none), none == full, self.none > self.full
        none, full = torch.where(same & falls, step, none), torch.where(same & ~falls, step, full)
        full = full + self.beyond * (full - none)
        varied = ((none != full) | (self.weight == 0)).all(1)  # else there is nothing to look at
        full = torch.where(none == full, none + 1, full)
        unset = torch.ones(len(self))
        people = People(self.column, none, full, self.weight, self.product, unset, unset)
        scores = people.scores(usual)  # (N, M)
        everybody = torch.arange(len(self))[:, None]
        threshold = _quantile(scores.sort(dim=0).values, everybody, self.threshold[:, None])[:, 0]
        liked = (scores >= threshold.clamp_min(1e-9)).float().mean(0)
        kept = (varied & (liked >= LIKED[0]) & (liked <= LIKED[1])).nonzero()[:, 0]
        unit = scores.std(dim=0, correction=0).clamp_min(LEAST_UNIT)
        return People(self.column, none, full, self.weight, self.product, threshold, unit).some(kept)


def _quantile(ordered: Tensor, column: Tensor, share: Tensor) -> Tensor:
    """Of columns in order (N, K), those at a share of the way (M, P), in between by straight lines."""
    place = share * (len(ordered) - 1)
    below = place.floor().long()
    above = (below + 1).clamp_max(len(ordered) - 1)
    low, high = ordered[below, column], ordered[above, column]
    return low + (place - below) * (high - low)


def _next(ordered: Tensor, column: Tensor, value: Tensor) -> Tensor:
    """The least of a column's values (N, K) above one (M, P), the step to "any at all"; the same where none is."""
    above = torch.searchsorted(ordered.T.contiguous()[column.flatten()], value.flatten()[:, None], right=True)
    place = above[:, 0].clamp_max(len(ordered) - 1).view_as(column)
    return torch.where(ordered[place, column] > value, ordered[place, column], value)


@dataclass(frozen=True)
class People:
    """M people among answers of a usual kind. `none`, `full` (M, P): the counts at which a part is worth nothing, and
    all; `threshold` (M,): the score from which a thumb goes up; `unit` (M,): the deviation of usual answers' scores."""

    column: Tensor
    none: Tensor
    full: Tensor
    weight: Tensor
    product: Tensor
    threshold: Tensor
    unit: Tensor

    def __len__(self) -> int:
        return len(self.threshold)

    @staticmethod
    def nobody() -> People:
        none = torch.empty(0, 0)
        return People(
            none.long(), none, none, none, torch.empty(0, dtype=torch.bool), torch.empty(0), torch.empty(0)
        )

    def some(self, people: Tensor) -> People:
        """Some of them, by number."""
        return People(*(getattr(self, name)[people] for name in self.__dataclass_fields__))

    def tensors(self) -> dict[str, Tensor]:
        """Their numbers, as small as may be kept."""
        return _small(self)

    def scores(self, counts: Tensor) -> Tensor:
        """(N, K) → (N, M), 0 to 1 each: how much of what a person likes is in an answer."""
        parts = [self._scores(some) for some in counts.split(TOGETHER)]
        return torch.cat(parts) if parts else torch.empty(0, len(self))

    def _scores(self, counts: Tensor) -> Tensor:
        worth = ((counts[:, self.column] - self.none) / (self.full - self.none)).clamp(0, 1)  # (N, M, P)
        scores = (worth * self.weight).sum(-1)
        few = self.product.nonzero()[:, 0]  # only theirs, for logarithms are dear
        scores[:, few] = (worth[:, few].clamp_min(1e-6).log() * self.weight[few]).sum(-1).exp()
        return scores

    def chance(self, counts: Tensor) -> Tensor:
        """(N, M) that a person's thumb goes up, slips apart."""
        return torch.sigmoid(FIRMNESS * (self.scores(counts) - self.threshold) / self.unit)


@functools.cache
def shipped() -> tuple[Crowd, Families]:
    """The crowd as it ships, and the families of words that they count."""
    with (
        resources.as_file(resources.files("feedback") / FILE) as path,
        safe_open(path, framework="pt") as file,
    ):
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
        told = file.metadata()
    assert json.loads(told["shapes"]) == _shapes(), "these people count something else: draw them anew"
    return unpacked(tensors, json.loads(told["words"]))


def tally(texts: Sequence[str]) -> Tensor:
    """(N, K) what the crowd that ships may count in answers."""
    return count(texts, shipped()[1])


def packed(crowd: Crowd, families: Families) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file."""
    family, word = families.members.T.nonzero(as_tuple=True)
    tensors = _small(crowd)
    tensors |= {"part": families.part.to(torch.uint8), "family": family.short(), "word": word.short()}
    told = {"words": json.dumps(families.words), "shapes": json.dumps(_shapes())}
    return {n: t.contiguous() for n, t in tensors.items()}, told


def _small(numbers: Crowd | People) -> dict[str, Tensor]:
    """Each by its name, in half as many bytes or fewer; truths as they are."""
    tensors = {name: getattr(numbers, name) for name in numbers.__dataclass_fields__}
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            tensors[name] = tensor.half()
        elif tensor.dtype == torch.long:
            tensors[name] = tensor.short()
    return tensors


def _shapes() -> dict[str, int]:
    """What of SHAPES the columns were numbered by."""
    return {kind: len(each) for kind, each in SHAPES.items()}


def unpacked(tensors: dict[str, Tensor], words: Sequence[str]) -> tuple[Crowd, Families]:
    """What `packed` put together."""
    part = tensors["part"].long()
    members = torch.zeros(len(words), len(part))
    members[tensors["word"].long(), tensors["family"].long()] = 1
    numbers = {name: tensors[name] for name in Crowd.__dataclass_fields__}
    numbers = {n: t.float() if t.is_floating_point() else t for n, t in numbers.items()}
    return Crowd(**(numbers | {"column": tensors["column"].long()})), Families(tuple(words), members, part)
