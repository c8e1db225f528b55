"""What goes on learning from one version to the next: policy, critic, their optimiser, the KL coefficient.

Knows its own state and how to put it into a version and take it out again; knows nothing of thumbs, rollouts or disk.

Shapes: B rows, A answer tokens, K numbers that the critic sees.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Generator, Tensor, nn

from adapters.adapter import Adapter
from adapters.model import BaseModel
from adapters.policy import Policy
from adapters.versions import Learner as Kept
from feedback.ppo import KLController, PPOConfig, optimiser

log = logging.getLogger(__name__)

HIDDEN = 32


class Critic(nn.Module):
    """What an answer has still to gain. It sees few numbers a token (credit.py), so that it holds for prompts and
    answers that it was not fitted on: on whole hidden states it foretold only the batch that it had seen."""

    def __init__(self, width: int, generator: Generator) -> None:
        super().__init__()
        self.inner = nn.Linear(width, HIDDEN)
        self.outer = nn.Linear(HIDDEN, 1)
        with torch.no_grad():
            self.inner.weight.normal_(0, width**-0.5, generator=generator)
            self.inner.bias.zero_()
            self.outer.weight.zero_()
            self.outer.bias.zero_()

    def forward(self, seen: Tensor) -> Tensor:
        """(B, A, K) → (B, A), in units of reward."""
        values: Tensor = self.outer(torch.tanh(self.inner(seen)))[..., 0]
        return values


class Learner:
    """Policy and critic with one optimiser, and the controller of the KL coefficient."""

    def __init__(
        self,
        model: BaseModel,
        adapter: Adapter,
        seen: int,
        config: PPOConfig,
        kl: KLController,
        generator: Generator,
    ) -> None:
        """`seen`: how many numbers a token the critic is shown."""
        self.policy = Policy(model, adapter)
        self.critic = Critic(seen, generator).to(model.device)
        self.optimiser = optimiser(self.policy.parameters(), self.critic.parameters(), config)  # type: ignore[arg-type]
        self.kl = kl
        self.doubt = 1.0
        self._rate = config.learning_rate

    def pace(self, share: float) -> None:
        """From now on each of the policy's steps is this share of the learning rate long."""
        self.optimiser.param_groups[0]["lr"] = share * self._rate

    def trust(self, doubt: float, target: float) -> None:
        """From now on a nat costs this share of the KL coefficient, 0 to 1, which is steered to `target` nats an
        answer."""
        self.doubt, self.kl.target = doubt, target

    @property
    def price(self) -> float:
        """What a nat costs, in units of reward."""
        return self.doubt * self.kl.coef

    def step_back(self, share: float) -> None:
        """The policy goes so much of the way back to the base model, 1 is all, and what drove it away (its moments) is
        forgotten."""
        adapter = self.policy.adapter()
        self.policy.load(adapter.towards(adapter.silent(), share))
        for factor in self.policy.parameters():
            self.optimiser.state.pop(factor, None)

    def tensors(self) -> dict[str, Tensor]:
        """Critic and optimiser moments, by name."""
        out = {f"critic.{name}": tensor for name, tensor in self.critic.state_dict().items()}
        for number, state in self.optimiser.state_dict()["state"].items():
            out |= {f"optimiser.{number}.{name}": torch.as_tensor(value) for name, value in state.items()}
        return out

    def meta(self) -> dict[str, Any]:
        """The rest of the state, as JSON."""
        return {"kl": self.kl.state_dict()}

    def resume(self, kept: Kept) -> None:
        """Go on with the state that a version was published with; what has another shape by now begins fresh."""
        tensors, meta = kept
        self.kl.load_state_dict(meta["kl"])
        critic = {n.removeprefix("critic."): t for n, t in tensors.items() if n.startswith("critic.")}
        moments, factors = _moments(tensors), self.policy.parameters()
        if _shapes(critic) == _shapes(self.critic.state_dict()):
            self.critic.load_state_dict(critic)
        else:
            log.warning("the critic begins fresh: the kept one has another shape")
            moments = {number: state for number, state in moments.items() if number < len(factors)}
        parameters = [*factors, *self.critic.parameters()]
        if not all(_fits(state, parameters[number : number + 1]) for number, state in moments.items()):
            log.warning("the optimiser begins fresh: the kept one's moments have other shapes")
            moments = {}
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": moments})


def _moments(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """The optimiser's state of each parameter, by the parameter's number."""
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "optimiser":
            number, _, field = rest.partition(".")
            moments.setdefault(int(number), {})[field] = tensor.clone()  # which the optimiser moves in place
    return moments


def _shapes(state: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}


def _fits(state: dict[str, Tensor], parameter: list[Tensor]) -> bool:
    """Is there such a parameter, and do its moments have its shape?"""
    shapes = [tensor.shape for name, tensor in state.items() if name != "step"]
    return bool(parameter) and all(shape == parameter[0].shape for shape in shapes)
