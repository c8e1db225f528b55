"""What one person's thumbs say, read once a round: the reward model that PPO climbs, and the judge's.

Knows which thumb teaches which of the two, and what a person is told about them. Does not know what becomes of either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from adapters.model import BaseModel
from feedback import auroc, beliefs, reward
from feedback.company import Company
from feedback.crowd import shipped
from feedback.features import Answers, Scale
from feedback.reward import RewardModel
from feedback.rollouts import features, rated
from feedback.round import Example, RoundConfig, Stop


@dataclass(frozen=True)
class Taste:
    """What the thumbs say: the reward model that PPO climbs, the judge's, and what a person is told about them."""

    climbed: RewardModel
    judge: RewardModel
    metrics: dict[str, Any]


def read_taste(
    model: BaseModel,
    examples: Sequence[Example],
    read: Answers,
    base: Answers,
    config: RoundConfig,
    stop: Stop,
) -> Taste:
    """Two reward models from one person's thumbs: one to climb, and one of all thumbs, those that were kept from the
    first included, to judge by. A correction is a thumb up for its text. `read`: the answers that are not silent;
    `base`: the base model's, which tell what is much and what is little of anything.

    The kept thumbs alone would be the freer judge, but they are few: it held back what was good for the
    person more often than not (docs/log.md). Where none is kept yet, the judge knows nothing and likes nothing better:
    nothing is published that only the climbed model vouches for.
    """
    said = [n for n, e in enumerate(examples) if not e.silent]
    corrected = [n for n, e in enumerate(examples) if e.wanted]
    wanted = [rated(model, examples[n].messages, examples[n].wanted or "", True) for n in corrected]
    answers = Answers.join([read, features(model, wanted, stop)]) if wanted else read
    up = torch.tensor([float(examples[n].rating > 0) for n in said] + [1.0] * len(corrected))
    order = torch.tensor([*said, *corrected])
    apart = torch.tensor([examples[n].held_out for n in order.tolist()])
    # What alone was wanted is not kept from the one: it would explore, as after thumbs down alone, and the other not.
    if not bool(up[~apart].any()):
        apart &= up < 0.5
    prior = reward.shared(model.digest, config.reward)
    scale = Scale.of(Answers.join([answers, base]), config.reward, prior)
    company = Company.among(shipped()[0], base, answers, scale)
    known = list(range(len(up))) if bool(apart.any()) else []  # else it would only say what was climbed
    climbed, judge = (
        reward.fit(
            answers.rows(rows), up[rows], scale, config.reward, prior, order[rows], company if rows else None
        )
        for rows in ((~apart).nonzero()[:, 0].tolist(), known)
    )
    rated_apart = apart & (torch.arange(len(up)) < len(said))  # of a person's own words nothing was foretold
    kept = up[rated_apart]
    area = auroc.auroc(climbed.preference(answers)[rated_apart], kept, config.reward.auroc_least)
    interval = None
    if area is not None:
        interval = auroc.interval(area, int((kept > 0.5).sum()), int((kept < 0.5).sum()))
    ups = sum(e.rating > 0 for e in examples)
    downs = len(examples) - ups
    metrics = {
        "thumbs": len(examples),
        "thumbs_up": ups,
        "thumbs_down": downs,
        "thumbs_held_out": sum(e.held_out for e in examples),
        "corrections": len(corrected),
        "reward_model_auroc": area,
        "reward_model_auroc_interval": interval,
        "reward_model_says": beliefs.describe(ups, downs, len(corrected), area, interval),
        "likes": beliefs.likes(climbed.beliefs(), len(examples)),
        "beliefs": [
            {"feature": name, "weight": weight, "certainty": certainty}
            for name, weight, certainty in climbed.beliefs()
        ],
    }
    return Taste(climbed, judge, metrics)
