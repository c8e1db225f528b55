"""How sure a figure over tastes, seeds and prompts is. Pure statistics: numbers in, estimates out.

Knows panels of numbers. Does not know what they measure. Intervals are 95 % percentile bootstraps (Efron 1979), nested
as the numbers are (Davison and Hinkley 1997, §3.8): tastes are drawn with replacement, then of each drawn taste its
seeds, then of each drawn seed its prompts. Both sides of a difference are drawn together, so it stays paired over
prompts; with one taste what is drawn are its seeds and their prompts: clustered by seed.

Shapes: R resamples, K panels, T tastes, S seeds, P prompts.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from service.course import CONFIDENCE, RESAMPLES, Estimate

# Tastes, each with seeds, each with as many prompts as all others.
Panel = Sequence[Sequence[Sequence[float]]]
SEED = 0


def mean(panel: Panel) -> Estimate:
    """The mean over tastes of the mean over seeds of the mean over prompts."""
    return _estimate(_middle(panel), _drawn_means([panel])[:, 0])


def ratio(top: Panel, bottom: Panel) -> Estimate:
    """The ratio of two panels' means, which lie in the same tastes, seeds and prompts."""
    drawn = _drawn_means([top, bottom])
    return _estimate(_middle(top) / _middle(bottom), drawn[:, 0] / drawn[:, 1])


def gain(base: Panel, after: Panel) -> Estimate:
    """(after - base) / (1 - base): 0 is the base, 1 all that could be reached; over tastes the ratio of the means."""
    return ratio(minus(after, base), minus(_like(base, 1.0), base))


def median(panel: Sequence[Sequence[float]]) -> Estimate:
    """The median of all numbers of tastes, each with seeds."""
    values, counts = _padded([[[number] for number in seeds] for seeds in panel])
    drawn = [torch.where(inside, values[taste, seed, 0], torch.nan) for taste, seed, inside in _draws(counts)]
    numbers = [number for seeds in panel for number in seeds]
    return _estimate(statistics.median(numbers), torch.stack(drawn, 1).nanquantile(0.5, dim=1))


def minus(one: Panel, other: Panel) -> Panel:
    """One panel less the other, number by number."""
    return [
        [[a - b for a, b in zip(*prompts, strict=True)] for prompts in zip(*seeds, strict=True)]
        for seeds in zip(one, other, strict=True)
    ]


def streak_end(accepted: Sequence[bool], length: int = 3) -> int | None:
    """How many answers there were when `length` in a row were accepted for the first time; None if never."""
    run = 0
    for number, good in enumerate(accepted, 1):
        run = run + 1 if good else 0
        if run == length:
            return number
    return None


def _like(panel: Panel, value: float) -> Panel:
    return [[[value] * len(prompts) for prompts in seeds] for seeds in panel]


def _middle(panel: Panel) -> float:
    return statistics.fmean(statistics.fmean(map(statistics.fmean, seeds)) for seeds in panel)


def _drawn_means(panels: Sequence[Panel]) -> Tensor:
    """(R, K) of the panels' means, all drawn alike."""
    padded = [_padded(panel) for panel in panels]
    values, counts = torch.stack([value for value, _ in padded]), padded[0][1]  # (K, T, S, P), (T,)
    size = values.shape[-1]
    generator = torch.Generator().manual_seed(SEED + 1)
    total = torch.zeros(len(panels), RESAMPLES, dtype=torch.double)
    for taste, seed, inside in _draws(counts):
        prompt = torch.randint(size, (RESAMPLES, size), generator=generator)
        of_seed = values[:, taste[:, None], seed[:, None], prompt].mean(-1)  # (K, R)
        total += torch.where(inside, of_seed / counts[taste], 0.0)
    return (total / len(counts)).T


def _draws(counts: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Each place of a resample: (R,) which taste stands there, (R,) which of its seeds, (R,) whether it has so many."""
    generator = torch.Generator().manual_seed(SEED)
    for _ in range(len(counts)):
        taste = torch.randint(len(counts), (RESAMPLES,), generator=generator)
        for number in range(int(counts.max())):
            place = torch.rand(RESAMPLES, generator=generator) * counts[taste]
            yield taste, place.long(), number < counts[taste]


def _padded(panel: Panel) -> tuple[Tensor, Tensor]:
    """(T, S, P) with zeros where a taste has fewer seeds than another, and (T,) how many seeds each has."""
    sizes = {len(prompts) for seeds in panel for prompts in seeds}
    assert len(sizes) == 1 and all(panel), "every taste has a seed, and every seed as many prompts"
    counts = torch.tensor([len(seeds) for seeds in panel])
    values = torch.zeros(len(panel), int(counts.max()), sizes.pop(), dtype=torch.double)
    for number, seeds in enumerate(panel):
        values[number, : len(seeds)] = torch.tensor(seeds, dtype=torch.double)
    return values, counts


def _estimate(middle: float, drawn: Tensor) -> Estimate:
    tails = torch.tensor([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], dtype=drawn.dtype)
    low, high = drawn.quantile(tails).tolist()
    return Estimate(middle, low, high)
