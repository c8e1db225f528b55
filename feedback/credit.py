"""What each piece of an answer is credited with, and what the critic sees before each token.

Knows the reward model that is climbed, and what harm takes off; knows nothing of PPO, the KL budget or thumbs.

Shapes: B rollouts, A answer tokens, N answers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from adapters.model import BaseModel
from adapters.policy import Scores
from feedback.crowd import tally
from feedback.features import Answers
from feedback.harm import Harm
from feedback.reward import RewardConfig, RewardModel
from feedback.rollouts import Rollout, styles

PIECE = 4  # tokens of an answer that are given their credit together
PLACE_UNIT = 64.0  # tokens; keeps a position's number near 1


def credit(
    model: BaseModel,
    climbed: RewardModel,
    answers: Sequence[Rollout],
    reference: Scores,
    base: Answers,
    harm: Harm,
) -> Tensor:
    """(B, A) what each piece of PIECE tokens, and the end token, changed in the reward of the answer so far: what this
    person would say of it, less what its toxicity costs everybody.

    A row's sum is the reward of the whole answer, so the best policy stays the same (potential-based shaping, Ng et al.
    1999), but the advantage of a token no longer carries the noise of what was written long after it.
    """
    parts, places = [], []
    for row, answer in enumerate(answers):
        length = len(answer.answer)
        cuts = {*range(PIECE, length, PIECE), length - answer.ended, length} - {0}
        for cut in sorted(cuts):
            whole = cut == length
            text = answer.text if whole else model.decode(answer.answer[:cut])
            parts.append((text, whole and answer.ended))
            places.append((row, cut))
    rows, cuts_at = torch.tensor(places).T
    states = (reference.states.cumsum(1).cpu()[rows, cuts_at - 1]) / cuts_at[:, None]
    texts = [text for text, _ in parts]
    so_far = climbed.reward(Answers(styles(parts), states, tally(texts)), base.rows(rows.tolist()))
    so_far -= harm.penalty(texts)
    first = torch.cat([torch.tensor([True]), rows[1:] != rows[:-1]])
    gains = torch.zeros(reference.entropy.shape)
    gains[rows, cuts_at - 1] = so_far - torch.where(first, 0.0, so_far.roll(1))
    return gains


def critic_inputs(config: RewardConfig) -> int:
    """How many numbers a token `see` gives."""
    return config.components + 3


def see(climbed: RewardModel, reference: Scores, gains: Tensor, base: Answers) -> Tensor:
    """(B, A, K): the base model's state before each token, reduced; how far the answer is; its reward so far; and the
    worth of the base's answer, which every reward of the row is relative to."""
    rows, tokens = gains.shape
    place = (torch.arange(tokens) / PLACE_UNIT).expand(rows, tokens)
    so_far = gains.cumsum(1) - gains
    offset = climbed.preference(base)[:, None].expand(rows, tokens)
    return torch.cat(
        [climbed.scale.reduced(reference.states.cpu()), torch.stack([place, so_far, offset], dim=-1)], dim=-1
    )
