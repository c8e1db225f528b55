"""What is read off answers, and the units that it is measured in.

Knows numbers of answers; knows nothing of thumbs, people's likings or how the numbers come about (style.py, counts.py).

Shapes: N answers, F = S + C features: S of style, C components of hidden states; D hidden; K columns of counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from feedback.posterior import SILENT
from feedback.prior import Prior

if TYPE_CHECKING:
    from feedback.reward import RewardConfig


@dataclass(frozen=True)
class Answers:
    """Features of N answers before scaling: `style` (N, S) and `states` (N, D), and what people may count in them,
    `counts` (N, K), where a crowd is asked; float32 on the CPU."""

    style: Tensor
    states: Tensor
    counts: Tensor = SILENT

    def __len__(self) -> int:
        return len(self.style)

    def rows(self, index: list[int]) -> Answers:
        """Some of them."""
        return Answers(
            self.style[index], self.states[index], self.counts[index] if len(self.counts) else self.counts
        )

    @staticmethod
    def join(parts: list[Answers]) -> Answers:
        """All of them, in order."""
        return Answers(
            *(torch.cat([getattr(p, name) for p in parts]) for name in ("style", "states", "counts"))
        )


@dataclass(frozen=True)
class Scale:
    """From answers to features: what is taken off and divided by, of style (S,), and of the states' components (D, C).

    The mean is the person's own, which only moves the bias; the units are everybody's, where the prior has them.
    """

    style_mean: Tensor
    style_std: Tensor
    state_mean: Tensor
    components: Tensor
    reach: float

    @staticmethod
    def of(answers: Answers, config: RewardConfig, prior: Prior) -> Scale:
        """The scale of a set of answers. With units of the person's own, a feature that never varies stays at 0."""
        centre = answers.states.mean(dim=0)
        return Scale(
            answers.style.mean(dim=0),
            _own_unit(answers.style) if prior.unit is None else prior.unit,
            centre,
            _own_directions(answers.states - centre, config.components)
            if prior.projection is None
            else prior.projection,
            config.reach,
        )

    def features(self, answers: Answers) -> Tensor:
        """(N, F), each held within `reach` deviations."""
        style = ((answers.style - self.style_mean) / self.style_std).clamp(-self.reach, self.reach)
        return torch.cat([style, self.reduced(answers.states)], dim=1)

    def reduced(self, states: Tensor) -> Tensor:
        """(..., D) → (..., C), held likewise."""
        return ((states - self.state_mean) @ self.components).clamp(-self.reach, self.reach)


def _own_unit(style: Tensor) -> Tensor:
    """(S,) deviations, infinite where nothing varies."""
    std = style.std(dim=0, correction=0)
    return std.masked_fill(std < 1e-6, float("inf"))


def _own_directions(centred: Tensor, wanted: int) -> Tensor:
    """(D, C) the directions in which these states (N, D) differ most, each to deviation 1."""
    _, spread, directions = torch.linalg.svd(centred, full_matrices=False)
    kept = min(wanted, max(0, len(centred) - 1))
    deviation = spread[:kept] / len(centred) ** 0.5
    components = torch.zeros(centred.shape[1], wanted)
    components[:, :kept] = (directions[:kept] / deviation.clamp_min(1e-6)[:, None]).T
    return components
