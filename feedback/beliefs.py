"""What a reward model believes of its person, in words that the person can check.

Knows a style feature's words (style.py), its weight and how sure that is; knows nothing of fitting, answers or HTTP.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from feedback.style import FEATURES

LEAST_THUMBS = 8  # below these, nothing is said
SURE = 0.8  # the least posterior probability of what is said
CHANCE, GOOD = 0.5, 0.75  # AUROC: of a coin, and of a model that is worth having after some ten thumbs
MOST = 5  # likings that are told, the strongest
LEAST_WEIGHT = math.log(1.1)  # log-odds a standard deviation; what is less is no liking, however sure
# Up to which weight, in log-odds a standard deviation, a liking is called so: what makes a thumb up half as likely
# again, and twice as likely (as odds).
STRENGTHS = ((math.log(1.5), "slightly"), (math.log(2.0), "clearly"), (math.inf, "strongly"))


def likes(beliefs: Iterable[tuple[str, float, float]], thumbs: int) -> list[dict[str, Any]]:
    """What this person likes, strongest first, from RewardModel.beliefs after so many thumbs; [] where it is too early.

    `certainty` is the posterior probability that the weight's sign is right. `weight` is in log-odds of a thumb up a
    standard deviation of the feature.
    """
    if thumbs < LEAST_THUMBS:
        return []
    words = {feature.name: feature for feature in FEATURES}
    told = []
    for name, weight, certainty in sorted(beliefs, key=lambda belief: -abs(belief[1])):
        if certainty >= SURE and abs(weight) >= LEAST_WEIGHT:
            what = words[name].more if weight > 0 else words[name].less
            strength = next(word for most, word in STRENGTHS if abs(weight) < most)
            told.append(
                {
                    "feature": name,
                    "likes": what,
                    "strength": strength,
                    "certainty": certainty,
                    "weight": weight,
                    # Rounded down: nothing is ever 100 % sure.
                    "says": f"{what} ({strength}, {min(99, int(100 * certainty))} % sure)",
                }
            )
    return told[:MOST]


def describe(
    thumbs_up: int, thumbs_down: int, corrections: int, area: float | None, interval: Sequence[float] | None
) -> str:
    """In words, how far the model is to be trusted. `area`: its AUROC on held-out thumbs, with the 95 % `interval`."""
    total = thumbs_up + thumbs_down
    if total < LEAST_THUMBS:
        return too_early(total)
    if not thumbs_down:
        return f"all {total} thumbs are up: they say little about what makes the difference"
    if not thumbs_up and not corrections:
        return f"all {total} thumbs are down: until one is up or corrected, it tries what is different"
    if area is None or interval is None:
        return f"learning from {total} thumbs; too few are held out to check it yet"
    low, high = (round(each, 2) for each in interval)  # as they are told
    found = f"AUROC {area:.2f}, 95 % interval {low:.2f} to {high:.2f}"
    if low > CHANCE:
        return f"it foretells held-out thumbs ({found})"
    if high < GOOD:
        return f"the thumbs contradict each other, or hang on what it cannot see ({found})"
    return f"too early to tell whether it foretells held-out thumbs ({found})"


def too_early(thumbs: int) -> str:
    """What is said of fewer thumbs than LEAST_THUMBS."""
    return f"too early to tell: {thumbs} thumb{'s' * (thumbs != 1)}"
