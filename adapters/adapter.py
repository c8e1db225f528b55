"""One LoRA adapter in memory: its shape, its two matrices a module, and PEFT's names for them.

Knows: which module has which matrices, what PEFT calls them, and what makes an adapter from elsewhere one that
cannot be taken. Does not know: files, users, versions, or how a model applies an adapter.

An adapter adds `scale · B·A` to a module's weight, `scale = alpha / rank` (Hu et al. 2021, equation 3).
R rank, D_in and D_out the module's input and output width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

MAX_RANK = 4096  # published adapters use 1 to 256
MAX_SCALE = 16.0  # alpha / rank; published adapters use 0.5 to 4
MAX_WEIGHT = 100.0  # trained LoRA weights stay below about 1: far larger ones overflow in bfloat16

PREFIX = "base_model.model."  # what PEFT puts before a module's path in the Hugging Face model

# What a PEFT config may say that does not change what plain A and B matrices mean. Any other field
# (modules_to_save, use_dora, use_rslora, rank_pattern... and those not invented yet) must be empty or false.
HARMLESS = {
    "peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "r", "target_modules", "exclude_modules", "lora_alpha", "lora_dropout", "bias", "init_lora_weights",
    "megatron_core", "qalora_group_size",
}  # fmt: skip


class BadAdapter(Exception):
    """Not an adapter that this model can take; the message says what is wrong and what would be right."""


@dataclass(frozen=True)
class LoraShape:
    """What every adapter of one service has in common. `modules`: path in the model → (D_out, D_in)."""

    rank: int
    alpha: float
    modules: dict[str, tuple[int, int]]

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    @property
    def numbers(self) -> int:
        """How many weights an adapter of this shape has."""
        return sum(self.rank * (d_out + d_in) for d_out, d_in in self.modules.values())


@dataclass(frozen=True)
class Adapter:
    """`weights`: module path → A (R, D_in), B (D_out, R), both float32 on the CPU."""

    shape: LoraShape
    weights: dict[str, tuple[Tensor, Tensor]]

    @staticmethod
    def fresh(shape: LoraShape, generator: torch.Generator) -> Adapter:
        """An adapter that changes nothing yet: B zero, A uniform in ±1/√D_in (PEFT's `kaiming_uniform_(a=√5)`)."""
        weights = {}
        for path, (d_out, d_in) in shape.modules.items():
            bound = 1 / math.sqrt(d_in)
            a = (torch.rand(shape.rank, d_in, generator=generator) * 2 - 1) * bound  # (R, D_in)
            weights[path] = (a, torch.zeros(d_out, shape.rank))
        return Adapter(shape, weights)

    def towards(self, other: Adapter, share: float) -> Adapter:
        """Each factor so far on the straight way to another's of the same shape: 0 is here, 1 is there."""
        return Adapter(
            self.shape,
            {
                path: (a.lerp(other.weights[path][0], share), b.lerp(other.weights[path][1], share))
                for path, (a, b) in self.weights.items()
            },
        )

    def silent(self) -> Adapter:
        """Every B at nothing: it answers as the base model does, and training can go on from it."""
        return Adapter(self.shape, {path: (a, torch.zeros_like(b)) for path, (a, b) in self.weights.items()})

    @property
    def is_silent(self) -> bool:
        """Whether every B is nothing."""
        return not any(bool(b.any()) for _, b in self.weights.values())

    def check(self) -> None:
        """Raises `BadAdapter` if a matrix is missing, has another shape, or holds a number no model can use."""
        _same_names(set(self.weights), set(self.shape.modules), "module")
        for path, (d_out, d_in) in self.shape.modules.items():
            a, b = self.weights[path]
            _check_matrix(f"{path} lora_A", a, (self.shape.rank, d_in))
            _check_matrix(f"{path} lora_B", b, (d_out, self.shape.rank))

    def to_peft(self, base_name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """PEFT's `adapter_config.json` and the tensors of `adapter_model.safetensors`, as copies."""
        config = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base_name,
            "inference_mode": True,
            "r": self.shape.rank,
            "lora_alpha": self.shape.alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": False,
            "target_modules": sorted({path.rpartition(".")[2] for path in self.shape.modules}),
        }
        tensors = {}
        for path, pair in self.weights.items():
            for name, matrix in zip(peft_names(path), pair, strict=True):
                tensors[name] = matrix.detach().to("cpu", torch.float32, copy=True).contiguous()
        return config, tensors

    @staticmethod
    def from_peft(config: dict[str, Any], tensors: dict[str, Tensor], shape: LoraShape) -> Adapter:
        """The adapter in PEFT's files, if it has just this shape; another alpha is folded into B.

        Raises `BadAdapter`: not plain LoRA, another rank, other modules or widths, NaN, infinite or outsized
        numbers, an outsized alpha.
        """
        rank, alpha = _check_config(config)
        if rank != shape.rank:
            raise BadAdapter(f"the adapter has rank {rank}, this service's have rank {shape.rank}")
        _same_names(set(tensors), {name for path in shape.modules for name in peft_names(path)}, "tensor")
        for name, tensor in tensors.items():
            if not tensor.is_floating_point():
                raise BadAdapter(f"{_short(name)} holds {tensor.dtype}, not floating point numbers")
        weights = {}
        for path in shape.modules:
            a, b = (tensors[name].to(torch.float32) for name in peft_names(path))
            weights[path] = (a, b if alpha == shape.alpha else b * (alpha / shape.alpha))
        adapter = Adapter(shape, weights)
        adapter.check()
        return adapter


def shape_in_peft(config: dict[str, Any], tensors: dict[str, Tensor]) -> LoraShape:
    """The shape that PEFT's files themselves state; `BadAdapter` if they state none."""
    rank, alpha = _check_config(config)
    modules = {}
    for name in tensors:
        path = name.removeprefix(PREFIX).removesuffix(".lora_A.weight")
        a, b = (tensors.get(n) for n in peft_names(path))
        if a is not None and b is not None and a.dim() == b.dim() == 2:
            modules[path] = (b.shape[0], a.shape[1])
    if not modules:
        raise BadAdapter("there is no lora_A and lora_B of any module in it")
    return LoraShape(rank, alpha, modules)


def peft_names(path: str) -> tuple[str, str]:
    """What PEFT calls A and B of a module."""
    return f"{PREFIX}{path}.lora_A.weight", f"{PREFIX}{path}.lora_B.weight"


def check_numbers(name: str, numbers: Tensor) -> None:
    """Raises `BadAdapter` if one of them is none that a model can use."""
    low, high = (edge.item() for edge in numbers.aminmax())  # both NaN if one number is
    if not (math.isfinite(low) and math.isfinite(high)):
        raise BadAdapter(f"{name} holds NaN or infinite numbers")
    if max(-low, high) > MAX_WEIGHT:
        raise BadAdapter(f"{name} holds numbers beyond ±{MAX_WEIGHT:g}")


def _check_config(config: dict[str, Any]) -> tuple[int, float]:
    """(rank, alpha) of a plain LoRA config."""
    if config.get("peft_type") != "LORA":
        raise BadAdapter(f"peft_type is {_short(config.get('peft_type'))}, only LORA can be taken")
    for key, value in config.items():
        if key not in HARMLESS and value:
            raise BadAdapter(f"{_short(key)} is {_short(value)}: only plain LoRA, without it, can be taken")
    if config.get("bias", "none") != "none":
        raise BadAdapter(f"bias is {_short(config['bias'])}, it must be none")
    if config.get("init_lora_weights", True) not in (True, False, "gaussian"):
        # PiSSA, OLoRA, CorDA and their like change the base model's weights too
        raise BadAdapter(f"init_lora_weights is {_short(config['init_lora_weights'])}, it must be true")
    rank: Any = config.get("r")
    alpha: Any = config.get("lora_alpha")
    if type(rank) is not int or not 1 <= rank <= MAX_RANK:
        raise BadAdapter(f"r is {_short(rank)}, it must be a whole number from 1 to {MAX_RANK}")
    if type(alpha) not in (int, float) or not 0 < alpha <= MAX_SCALE * rank:
        raise BadAdapter(f"lora_alpha is {_short(alpha)}, it must be above 0 and at most {MAX_SCALE:g} × r")
    return rank, float(alpha)


def _same_names(given: set[str], wanted: set[str], noun: str) -> None:
    if missing := wanted - given:
        raise BadAdapter(f"{len(missing)} {noun}s are missing, such as {_short(min(missing))}")
    if other := given - wanted:
        raise BadAdapter(f"{len(other)} {noun}s are not of this model, such as {_short(min(other))}")


def _check_matrix(name: str, matrix: Tensor, shape: tuple[int, int]) -> None:
    if tuple(matrix.shape) != shape:
        raise BadAdapter(f"{name} has shape {tuple(matrix.shape)}, it must be {shape}")
    check_numbers(name, matrix)


def _short(value: object) -> str:
    """What somebody else wrote, cut to fit into a message."""
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."
