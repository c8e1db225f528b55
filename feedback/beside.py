"""What a step makes smaller beside PPO's own loss: corrections, learnt by word, and what no taste may unlearn.

Knows a round's corrections and the pairs to retain, and which of them come next; knows nothing of rollouts or rewards.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from adapters.policy import Sequences
from feedback.learner import Learner
from feedback.round import Round

TOGETHER = 2  # corrections, and pairs, that a step looks at


def losses(round: Round, learner: Learner) -> list[Callable[[], Tensor]]:
    """For `ppo.update`: at each call each looks at other corrections or pairs. What they move counts in the KL like any
    other step: `target_kl` ends the update, and the budget takes it back."""
    model, policy, retention = round.model, learner.policy, round.harm.retention
    words, held = (_turns(round, len(some)) for some in (round.lessons, retention.pairs))

    def by_word() -> Tensor:
        """γ times the cross-entropy a token of some corrections: the last term of Ouyang et al. 2022, eq. 2, with this
        person's corrections in the place of pretraining text."""
        round.stop()
        sequences = Sequences.of([round.lessons[number] for number in next(words)], model.device)
        return -round.config.correction_coef * policy.score(sequences).logprobs[sequences.mask].mean()

    def retained() -> Tensor:
        round.stop()
        return round.config.retention_coef * retention.loss(model, policy, next(held))

    corrected = [by_word] if round.lessons and round.config.correction_coef else []
    return [*corrected, retained] if round.config.retention_coef else corrected


def _turns(round: Round, count: int) -> Iterator[list[int]]:
    """So many numbers in a drawn order, TOGETHER at a time, again and again."""
    order = torch.randperm(count, generator=round.generator)
    return itertools.cycle([some.tolist() for some in order.split(TOGETHER)])
