"""What goes on learning from one version to the next: policy, critic, their optimiser, the KL coefficient.

Knows its own state and how to put it into a version and take it out again; knows nothing of thumbs, rollouts or disk.

Shapes: B rows, A answer tokens, D hidden.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor, nn

from adapters.adapter import Adapter
from adapters.model import BaseModel
from adapters.policy import Policy
from adapters.versions import Learner as Kept
from feedback.ppo import KLController, PPOConfig, optimiser

HIDDEN = 64
PLACE_UNIT = 64.0  # tokens; keeps the input of a position near 1


class Critic(nn.Module):
    """What an answer has still to gain, from the state before each token, how far the answer is, and the worth of the
    base's own answer."""

    def __init__(self, width: int, generator: Generator) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.inner = nn.Linear(width + 2, HIDDEN)
        self.outer = nn.Linear(HIDDEN, 1)
        with torch.no_grad():
            self.inner.weight.normal_(0, width**-0.5, generator=generator)
            self.inner.bias.zero_()
            self.outer.weight.zero_()
            self.outer.bias.zero_()

    def forward(self, states: Tensor, base: Tensor) -> Tensor:
        """(B, A, D) and (B,) → (B, A), in units of reward. Gradients stop here: the states are constants."""
        rows, tokens, _ = states.shape
        offset = base[:, None].expand(rows, tokens)
        place = (torch.arange(tokens, device=states.device) / PLACE_UNIT).expand(rows, tokens)
        seen = torch.cat([self.norm(states.detach()), offset[..., None], place[..., None]], dim=-1)
        inner = torch.tanh(self.inner(seen))
        values: Tensor = self.outer(inner)[..., 0]
        return values


class Learner:
    """Policy and critic with one optimiser, and the controller of the KL coefficient."""

    def __init__(
        self, model: BaseModel, adapter: Adapter, config: PPOConfig, kl: KLController, generator: Generator
    ) -> None:
        self.policy = Policy(model, adapter)
        self.critic = Critic(model.hidden, generator).to(model.device)
        self.optimiser = optimiser(self.policy.parameters(), self.critic.parameters(), config)  # type: ignore[arg-type]
        self.kl = kl

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
        """Go on with the state that a version was published with."""
        tensors, meta = kept
        critic = {n.removeprefix("critic."): t for n, t in tensors.items() if n.startswith("critic.")}
        self.critic.load_state_dict(critic)
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "optimiser":
                number, _, field = rest.partition(".")
                moments.setdefault(int(number), {})[field] = tensor
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": moments})
        self.kl.load_state_dict(meta["kl"])
