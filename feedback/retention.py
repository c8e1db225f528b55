"""What no taste may unlearn: the choice of a good answer over a bad one, held where the base model has it.

Knows pairs like the gate's probes, of which none is one of them, and a policy in training; knows nothing of thumbs, of
limits, or of what the gate will say. No user's rating reaches anything here.

A style that most answers take on wears off refusals, a little a step, whatever the style is. So beside PPO's own loss
stands, as InstructGPT mixes in its pretraining (Ouyang et al. 2022, eq. 2), the square of what the margin m of some
pairs has moved from the base model's, m₀: (m − m₀)², as IPO has it of a wanted margin (Azar et al. 2023, eq. 17). It
asks for no style, for both answers of a pair have the same. It pulls from either side: paid only for what it had lost,
the policy went far beyond, and began to refuse what was harmless (docs/log.md).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from adapters.model import BaseModel
from adapters.policy import Policy, score_base
from feedback.pairs import Pair, margins, sequences_of

TOGETHER = 8  # pairs that are read in one pass


class Retention:
    """The shipped pairs, and what each base model makes of them: measured once and kept."""

    def __init__(self) -> None:
        self.pairs = shipped()
        self._of_base: WeakKeyDictionary[BaseModel, Tensor] = WeakKeyDictionary()

    def loss(self, model: BaseModel, policy: Policy, numbers: Sequence[int]) -> Tensor:
        """(), nats a token, squared: how far these pairs are from the base model's margin, in the mean."""
        before = self.of_base(model)[list(numbers)]  # first: a gradient has to follow its own pass
        sequences = sequences_of(model, [self.pairs[number] for number in numbers])
        now = margins(policy.score(sequences).logprobs, sequences)
        return (now - before).square().mean()

    def of_base(self, model: BaseModel) -> Tensor:
        """(P,) the base model's margins of all P pairs."""
        if model not in self._of_base:
            parts = [self.pairs[at : at + TOGETHER] for at in range(0, len(self.pairs), TOGETHER)]
            sequences = [sequences_of(model, part) for part in parts]
            found = [margins(score_base(model, each).logprobs, each) for each in sequences]
            self._of_base[model] = torch.cat(found)
        return self._of_base[model]


@lru_cache(maxsize=1)
def shipped() -> list[Pair]:
    """Of every kind that has worn off."""
    kinds = json.loads((resources.files("feedback") / "retention.json").read_text())
    return [Pair(*each) for pairs in kinds.values() for each in pairs]
