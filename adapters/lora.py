"""A frozen Linear that adds a low-rank change of its own to every row: LoRA (Hu et al. 2021, eq. 3).

Knows stacked adapters and which row uses which; knows nothing of users, versions or files. S slots lie stacked in
every layer; slot 0 is zero, so a row on slot 0 is a row of the base model. A `Routing`, shared by all layers of a
model, says how the rows of the next forward pass choose:

- `Base()`: no adapter at all;
- `Single(slot)`: all rows use one slot (a prompt's prefill, a trainer's rollouts);
- `Mixed(slots)`: row b uses slots[b]. All slots in use are applied to all rows in two products and a mask keeps each
  row's own: it reads every adapter once and needs no gather per row. What the mask removes is an exact zero;
- `Trained(factors)`: parameters outside the stack, with gradients.

Shapes: B rows, T tokens, S slots, R rank, K slots in use, I inputs, O outputs. The scale alpha / R is folded
into B when an adapter is put into a slot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

Factors = Mapping[str, tuple[Tensor, Tensor]]  # module → A (R, I), B (O, R)


@dataclass(frozen=True)
class Base:
    """No row uses an adapter."""


@dataclass(frozen=True)
class Single:
    """All rows use one slot."""

    slot: int


class Mixed:
    """Row b uses slots[b] (B,). Kept from step to step while the batch stays, with what layers gathered for it."""

    def __init__(self, slots: list[int], rank: int, device: torch.device) -> None:
        used = sorted(set(slots) - {0})
        self.used = torch.tensor(used, device=device)  # (K,)
        column = torch.tensor(used, device=device).repeat_interleave(rank)  # (K·R,)
        self.mask = (torch.tensor(slots, device=device)[:, None] == column[None, :])[
            :, None, :
        ]  # (B, 1, K·R)
        self.gathered: dict[str, tuple[Tensor, Tensor]] = {}


@dataclass(frozen=True)
class Trained:
    """All rows use parameters that are being trained, scale included."""

    factors: Factors
    scale: float


class Routing:
    """How the next forward pass chooses adapters; one object shared by all layers of a model."""

    def __init__(self) -> None:
        self.choice: Base | Single | Mixed | Trained = Base()


class LoraLinear(nn.Module):
    """A frozen Linear with S + 1 stacked slots."""

    def __init__(self, name: str, frozen: nn.Linear, routing: Routing) -> None:
        super().__init__()
        self.name = name
        self.frozen = frozen
        self.routing = routing
        weight = frozen.weight
        self.down = torch.zeros(
            0, 0, frozen.in_features, dtype=weight.dtype, device=weight.device
        )  # (S, R, I)
        self.up = torch.zeros(
            0, 0, frozen.out_features, dtype=weight.dtype, device=weight.device
        )  # (S, R, O)

    def stack(self, slots: int, rank: int) -> None:
        """Make room for `slots` adapters of `rank` beside slot 0."""
        self.down = self.down.new_zeros(slots + 1, rank, self.frozen.in_features)
        self.up = self.up.new_zeros(slots + 1, rank, self.frozen.out_features)

    def put(self, slot: int, a: Tensor, b: Tensor, scale: float) -> None:
        """Fill a slot with A (R, I) and scale · B (O, R)."""
        assert slot > 0, "slot 0 is the base model"
        self.down[slot].copy_(a)
        self.up[slot].copy_((b * scale).T)

    def clear(self, slot: int) -> None:
        """Leave nothing in a slot."""
        self.down[slot].zero_()
        self.up[slot].zero_()

    def forward(self, x: Tensor) -> Tensor:  # (B, T, I) → (B, T, O)
        """The frozen product plus each row's own change."""
        y: Tensor = self.frozen(x)
        match self.routing.choice:
            case Base():
                return y
            case Single(slot):
                return y + linear(x, self.down[slot]) @ self.up[slot] if slot else y
            case Mixed() as mixed:
                return self._mixed(x, y, mixed)
            case Trained(factors, scale):
                a, b = factors[self.name]
                return y + linear(linear(x, a.to(x.dtype)), (b * scale).to(x.dtype))

    def _mixed(self, x: Tensor, y: Tensor, mixed: Mixed) -> Tensor:
        if not len(mixed.used):
            return y
        if self.name not in mixed.gathered:
            down, up = self.down[mixed.used], self.up[mixed.used]
            mixed.gathered[self.name] = down.flatten(0, 1), up.flatten(0, 1)  # (K·R, I), (K·R, O)
        down, up = mixed.gathered[self.name]
        low = linear(x, down).masked_fill(~mixed.mask, 0)  # (B, T, K·R)
        return y + low @ up


def install(model: nn.Module, routing: Routing) -> dict[str, LoraLinear]:
    """Wrap every Linear of the decoder (the output head stays as it is); module name → the wrapped layer."""
    head = model.get_output_embeddings()  # type: ignore[operator]
    plain = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    layers = {name: LoraLinear(name, module, routing) for name, module in plain.items() if module is not head}
    for name, layer in layers.items():
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, layer)
    return layers
