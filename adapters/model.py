"""The frozen base model and its tokenizer: loaded once, on one device, in one dtype.

Knows transformers, the chat template and where the model runs; knows nothing of users, stores or sampling. This
is the only place that applies the chat template, and the only one that picks device and dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from adapters import lora
from adapters.adapter import LoraShape
from adapters.attention import ATTENTION, Past, UnsupportedAttention
from adapters.checkpoint import Checkpoint, ModelError, Report, resolve
from adapters.compiler import CannotCompile
from adapters.native import Native, Unfit

ChatMessages = Sequence[dict[str, str]]

# What transformers raises for files that it cannot use, or whose tokenizer needs a package that is not installed
UNREADABLE = (
    OSError, ValueError, KeyError, RuntimeError, ImportError, AttributeError, TypeError, SafetensorError,
)  # fmt: skip


@dataclass(frozen=True)
class ModelConfig:
    """Which base model, and where it runs. "" is the embedded model; "auto" picks what this machine does best."""

    name: str = ""
    device: str = "auto"
    dtype: str = "auto"  # "auto", "bfloat16" or "float32"


class BaseModel:
    """A causal language model whose weights never change, with room for adapters in every linear layer."""

    def __init__(self, checkpoint: Checkpoint, network: Any, tokenizer: Any) -> None:
        self.name = checkpoint.name
        self.digest = checkpoint.digest
        self.network: Any = network.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.routing = lora.Routing()
        self.layers = lora.install(network, self.routing)
        self.head = network.get_output_embeddings()
        self.device: torch.device = self.head.weight.device
        config = network.config.get_text_config()
        self.hidden = int(config.hidden_size)
        self.context = int(config.max_position_embeddings)
        self.vocabulary = int(self.head.weight.shape[0])
        self.controls = sorted(tokenizer.get_added_vocab(), key=len, reverse=True)
        self.eos_ids = _end_tokens(network, tokenizer)
        self.native: Native | None = None

    def lora_shape(self, rank: int, alpha: float) -> LoraShape:
        """The shape of an adapter on every linear layer of the decoder."""
        sizes = {
            name: (layer.frozen.out_features, layer.frozen.in_features) for name, layer in self.layers.items()
        }
        return LoraShape(rank=rank, alpha=alpha, modules=sizes)

    def encode(self, messages: ChatMessages, answer: str | None = None) -> list[int]:
        """Token ids of a conversation up to where the assistant speaks, or with its finished answer after that."""
        said = [{**message, "content": self._defused(message["content"])} for message in messages]
        text = self.tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if answer is None:
            return ids
        return ids + self.tokenizer(self._defused(answer), add_special_tokens=False)["input_ids"]

    def _defused(self, content: str) -> str:
        """What somebody wrote, control tokens spelt so that they stay words: nobody speaks in another's role."""
        for control in self.controls:
            content = content.replace(control, control[0] + "\u200b" + control[1:])
        return content

    def decode(self, ids: Sequence[int]) -> str:
        """The text of answer tokens, special tokens left out."""
        text: str = self.tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def states(
        self,
        ids: Tensor,
        choice: lora.Base | lora.Single | lora.Mixed | lora.Trained,
        positions: Tensor | None = None,
        past: Past | None = None,
    ) -> Tensor:
        """Last hidden states (B, T, D) of tokens (B, T) under a choice of adapters."""
        if positions is None:
            positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        self.routing.choice = choice
        out = self.network.base_model(input_ids=ids, position_ids=positions, use_cache=False, past=past)
        states: Tensor = out.last_hidden_state
        return states

    def logits(self, states: Tensor) -> Tensor:
        """Float32 logits (..., V) of hidden states (..., D)."""
        out: Tensor = self.head(states).float()
        cap = getattr(self.network.config, "final_logit_softcapping", None)
        return out if cap is None else torch.tanh(out / cap) * cap


def load(config: ModelConfig, folder: Path, report: Report = print) -> BaseModel:
    """The base model, ready to run; converted and downloaded models are kept in `folder`. Raises ModelError."""
    checkpoint = resolve(config.name, folder, report)
    device = pick_device(config.device)
    dtype = pick_dtype(config.dtype, device)
    if config.dtype == "auto" and dtype == torch.float32 and _has_wide_vectors(device):
        model = _load(checkpoint, device, torch.bfloat16, report)
        if model.native is not None:
            return model
        del model  # before it is read again: both at once might not fit
    return _load(checkpoint, device, dtype, report)


def _load(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype, report: Report) -> BaseModel:
    report(f"loading {checkpoint.name} ({str(dtype).removeprefix('torch.')} on {device})")
    network, tokenizer = _read(checkpoint, device, dtype)
    if getattr(tokenizer, "chat_template", None) is None:
        raise ModelError(
            f"{checkpoint.name} has no chat template, so it cannot hold a conversation: name an instruct or chat model"
        )
    try:
        model = BaseModel(checkpoint, network, tokenizer)
    except (AttributeError, TypeError) as error:  # its config has no context length, or it has no output head
        raise ModelError(f"{checkpoint.name} is not a decoder that can be served here: {error}") from error
    if not model.layers:
        raise ModelError(
            f"{checkpoint.name} has no linear layer (torch.nn.Linear) that an adapter could change"
        )
    _try(model)
    try:
        model.native = Native(network, report)
    except (
        CannotCompile,
        Unfit,
        OSError,
        MemoryError,
    ) as error:  # OSError: no room to map the weights once more
        report(f"{checkpoint.name} runs through PyTorch's own operations: {error}")
    return model


def pick_device(wanted: str) -> torch.device:
    """CUDA when there is one, else the processor; or what was asked for."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.zeros(0, device=wanted).device
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"device {wanted!r} is not there: {_first_line(error)}") from error


def pick_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """bfloat16 where PyTorch's products of it are the quick ones, else float32; or what was asked for."""
    if wanted != "auto":
        if wanted not in ("bfloat16", "float32"):
            raise ModelError(f"dtype {wanted!r} is not one of auto, bfloat16, float32")
        return getattr(torch, wanted)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32


def _has_wide_vectors(device: torch.device) -> bool:
    """Whether the kernels beat PyTorch in float32 though the processor has no product of bfloat16."""
    return device.type == "cpu" and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


def _read(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.path, trust_remote_code=False)
        network: Any = AutoModelForCausalLM.from_pretrained(
            checkpoint.path,
            dtype=dtype,
            attn_implementation=ATTENTION,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except UNREADABLE as error:
        raise ModelError(f"cannot load {checkpoint.path}: {_first_line(error)}") from error
    return network.to(device), tokenizer


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _end_tokens(network: Any, tokenizer: Any) -> frozenset[int]:
    stated = network.generation_config.eos_token_id
    ids = stated if isinstance(stated, list) else [stated]
    return frozenset(int(i) for i in [*ids, tokenizer.eos_token_id] if i is not None)


def _try(model: BaseModel) -> None:
    """One small forward pass, so that an unfit model is refused at start and not at a user's first question."""
    try:
        prompt = model.encode([{"role": "user", "content": "Hello"}])
        with torch.inference_mode():
            states = model.states(torch.tensor([prompt], device=model.device), lora.Base())
    except (UnsupportedAttention, TypeError, AttributeError, RuntimeError) as error:
        raise ModelError(f"{model.name} is not a decoder that can be served here: {error}") from error
    if not torch.isfinite(model.logits(states)).all():
        raise ModelError(
            f"{model.name} computes NaN or infinity on a one-word prompt: its weights are broken"
        )
    if not model.eos_ids:
        raise ModelError(f"{model.name} names no end-of-sequence token, so no answer would ever end")
