"""The watch after publication: do people give the new version's answers more thumbs down than the old one's?

Knows counts of thumbs, and probability; knows nothing of versions, Redis or disk. Pure: nothing is drawn.

Each version has a chance of a thumb down of its own, independent of the other's and Beta(1, 1) before any thumb, so
Beta(1 + down, 1 + up) after them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

LEAST = 8  # thumbs for the new version's answers before anything is decided
CERTAINTY = 0.95  # probability of being worse from which on the old version is the better bet


@dataclass(frozen=True)
class Thumbs:
    """What was said of one version's answers."""

    up: int
    down: int

    @property
    def total(self) -> int:
        return self.up + self.down


def verdict(new: Thumbs, old: Thumbs) -> str | None:
    """Why the old version should answer again, in words; None while there is no reason to."""
    if new.total < LEAST:
        return None
    probability = probability_worse(new, old)
    if probability < CERTAINTY:
        return None
    shown = min(999, math.floor(1000 * probability)) / 1000  # it is never certain
    return (
        f"thumbs down: {new.down} of {new.total}, {old.down} of {old.total} for the version before; "
        f"worse with probability {shown:.3f}"
    )


def probability_worse(new: Thumbs, old: Thumbs) -> float:
    """P(p_new > p_old) for independent p ~ Beta(1 + down, 1 + up), counted in whole numbers.

    A chance with such a posterior is distributed as the (down + 1)-th smallest of total + 1 uniform draws. So, with
    n = new.total + 1 draws for the new version and m = old.total + 1 for the old, all C(n + m, m) orders are alike, and
    those count in which j > old.down of the old one's draws lie below the (new.down + 1)-th of the new one's:

        P = Σ_j C(new.down + j, j) · C(new.up + m - j, m - j) / C(n + m, m),   j = old.down + 1 ... m

    Thompson (1933), "On the likelihood that one unknown probability exceeds another in view of the evidence of two
    samples", Biometrika 25, has this sum for flat priors; Cook (2005), "Exact calculation of beta inequalities", for
    any whole numbers.
    """
    n, m, least = new.total + 1, old.total + 1, old.down + 1
    lower, upper = math.comb(new.down + least, least), math.comb(new.up + m - least, m - least)
    orders = lower * upper
    for j in range(least + 1, m + 1):
        lower = lower * (new.down + j) // j
        upper = upper * (m - j + 1) // (new.up + m - j + 1)
        orders += lower * upper
    return orders / math.comb(n + m, m)
