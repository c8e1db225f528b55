"""How well scores rank answers with a thumb up above those with one down, and how much that may be chance.

Knows scores and thumbs; knows nothing of where either comes from.
"""

from __future__ import annotations

import torch
from torch import Tensor


def interval(area: float, ups: int, downs: int) -> tuple[float, float]:
    """The 95 % interval of an AUROC from so many of either kind: the areas from which it is not farther than 1.96 of
    *their* standard errors (Hanley & McNeil 1982, eq. 1), so that a perfect order of three and three is not certain."""
    true = torch.linspace(0, 1, 1001, dtype=torch.double)
    pairs = (ups - 1) * (true / (2 - true) - true**2) + (downs - 1) * (2 * true**2 / (1 + true) - true**2)
    error = ((true * (1 - true) + pairs) / (ups * downs)).clamp_min(0).sqrt()
    within = true[(area - true).abs() <= 1.96 * error + 5e-4]
    return float(within.min()), float(within.max())


def auroc(scores: Tensor, up: Tensor, least: int = 1) -> float | None:
    """The chance that an answer with a thumb up scores above one with a thumb down (ties count half).

    None with fewer than `least` of either kind: too few to say.
    """
    good, bad = scores[up > 0.5], scores[up < 0.5]
    if min(len(good), len(bad)) < least:
        return None
    wins = (good[:, None] > bad[None, :]).double() + 0.5 * (good[:, None] == bad[None, :]).double()
    return float(wins.mean())
