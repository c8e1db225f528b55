"""A decoder of the Llama kind on compiled kernels: the frozen weights packed as they are read, and passes over them.

Knows the kernels' structures and which models they can compute; knows nothing of rows, users or sampling. A pass takes
a flat list of tokens, each with its position, its slot and its sequence's pages, so that one call decodes rows and
computes prompts alike. A token's bits depend on its own past alone, never on what is computed beside it.

Shapes: T tokens, N answer tokens, D hidden, V vocabulary, S slots, R rank.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from ctypes import c_float, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adapters.adapter import Adapter
from adapters.arena import arena
from adapters.compiler import kernels
from adapters.sampling import Drawn, Sampling
from adapters.structures import MODULES, Batch, Draws, Layer, Linear, Model

PAGE = 32  # tokens of a page of keys and values
FAMILIES = {"llama", "mistral", "qwen2", "qwen3"}
STATIC_ROPES = {"default", "linear", "llama3", "yarn"}


ONE_PASS = (
    threading.Lock()
)  # the kernels work in one workspace, whichever model and thread they are called for


class Unfit(Exception):
    """The kernels cannot compute this model; the message says why."""


@dataclass(frozen=True)
class Tokens:
    """What one pass computes. `tables`: each sequence's pages; `want`: the tokens whose states are asked for;
    `targets`: the token that follows each of these, to be scored; `shared`: how many of the first tokens, which are
    sequence 0's, begin every other sequence too."""

    ids: list[int]
    positions: list[int]
    sequences: list[int]
    slots: list[int]
    tables: Sequence[Sequence[int]]
    want: list[int]
    targets: list[int] | None = None
    shared: int = 0


@dataclass(frozen=True)
class Computed:
    """states (N, D) float32, normed; logits (N, V); of targets, log-probability and entropy (N,) in nats."""

    states: Tensor
    logits: Tensor | None
    logprobs: Tensor
    entropy: Tensor
    batch: Any
    number: int


class Native:
    """One frozen model in the kernels' layout. One pass at a time."""

    def __init__(self, network: Any, report: Any) -> None:
        """Raises `Unfit`, or `CannotCompile`."""
        config = network.config
        _check(network)
        self.library = kernels(report)
        for name in ("adapter_size", "page_size", "forward", "backward", "draw"):
            getattr(self.library, f"thumbtune_{name}").restype = c_int64
        # Asked before every pass, as the cores may be shared: no sum depends on how many threads there are.
        self.threads: Callable[[], int] = torch.get_num_threads
        self.network = network
        self.kept: list[Tensor] = []  # what the structures point into
        decoder = network.base_model
        self.layers = (Layer * config.num_hidden_layers)()
        self.names = [
            f"model.layers.{number}.{module}" for number in range(len(self.layers)) for module in MODULES
        ]
        head = decoder.layers[0].self_attn.head_dim
        cosine, sine = self._rotary(decoder.rotary_emb, config.max_position_embeddings, head)
        self.model = Model(
            layers=len(self.layers), hidden=config.hidden_size, heads=config.num_attention_heads,
            groups=config.num_key_value_heads, head=head, inner=config.intermediate_size,
            vocabulary=network.get_output_embeddings().weight.shape[0], threads=torch.get_num_threads(),
            window=getattr(config, "sliding_window", None) or 0 if config.model_type == "mistral" else 0,
            eps=config.rms_norm_eps, scaling=decoder.layers[0].self_attn.scaling, layer=self.layers,
            embedding=self._keep(decoder.embed_tokens.weight), norm=self._keep(decoder.norm.weight.float()),
            cosine=cosine, sine=sine, positions=config.max_position_embeddings,
        )  # fmt: skip
        for layer, packed in zip(decoder.layers, self.layers, strict=True):
            for number, module in enumerate(MODULES):
                packed.linear[number] = self._linear(_frozen(layer.get_submodule(module)))
            for number, norm in enumerate((layer.input_layernorm, layer.post_attention_layernorm)):
                packed.norm[number] = self._keep(norm.weight.float())
            if config.model_type == "qwen3":
                for number, norm in enumerate((layer.self_attn.q_norm, layer.self_attn.k_norm)):
                    packed.head_norm[number] = self._keep(norm.weight.float())
        self.model.out = self._linear(network.get_output_embeddings())
        self.page_size = int(self._call("page_size", ctypes.byref(self.model)))
        self.scratch = arena(1, self.page_size)  # pages of passes over whole sequences

    def adapter_size(self, rank: int) -> int:
        """bfloat16 numbers of one slot."""
        self.model.rank = rank
        return int(self._call("adapter_size", ctypes.byref(self.model)))

    def pack(self, adapter: Adapter, slot: Tensor) -> None:
        """Fill a slot (adapter_size,) bfloat16 with an adapter."""
        factors = [factor for name in self.names for factor in adapter.weights[name]]
        self.pack_factors(
            [factor.contiguous() for factor in factors], adapter.shape.rank, adapter.shape.scale, slot
        )

    def pack_factors(self, factors: Sequence[Tensor], rank: int, scale: float, slot: Tensor) -> None:
        """The same from float32 A and B of every module, in the order of `names`."""
        pointers = (c_void_p * len(factors))(*(factor.data_ptr() for factor in factors))
        with ONE_PASS:
            self.model.rank, self.model.threads = rank, self.threads()
            self._call(
                "pack_adapter", ctypes.byref(self.model), pointers, c_float(scale), c_void_p(slot.data_ptr())
            )

    def compute(
        self,
        tokens: Tokens,
        cache: Tensor,
        adapters: Tensor | None,
        rank: int,
        logits: bool = False,
        keep: bool = False,
    ) -> Computed:
        """One pass. `cache` holds the pages, `adapters` (S, adapter_size) the slots from 1 on.

        Raises IndexError for tokens and positions that the model does not have.
        """
        for name, values, count in (
            ("token", tokens.ids, self.model.vocabulary),
            ("position", tokens.positions, self.model.positions),
        ):
            if min(values) < 0 or max(values) >= count:
                raise IndexError(f"a {name} is not one of the model's {count}")
        width = max(map(len, tokens.tables))
        table = torch.tensor([[*row, *[0] * (width - len(row))] for row in tokens.tables], dtype=torch.int32)
        numbers = {
            name: torch.tensor(values, dtype=torch.int32)
            for name, values in (
                ("id", tokens.ids), ("position", tokens.positions), ("sequence", tokens.sequences),
                ("slot", tokens.slots), ("want", tokens.want), ("target", tokens.targets or []),
            )
        }  # fmt: skip
        wanted = len(tokens.want)
        out = {
            "states": torch.empty(wanted, self.model.hidden),
            "logits": torch.empty(wanted if logits else 0, self.model.vocabulary),
            "logprob": torch.empty(wanted),
            "entropy": torch.empty(wanted),
        }
        pointers = {name: tensor.data_ptr() for name, tensor in {**numbers, **out}.items() if len(tensor)}
        batch = Batch(
            tokens=len(tokens.ids), wanted=wanted, table_width=width, sequences=len(tokens.tables),
            shared=tokens.shared, table=table.data_ptr(), cache=cache.data_ptr(), keep=int(keep),
            adapters=adapters.data_ptr() if adapters is not None else None,
            adapter_size=adapters.shape[1] if adapters is not None else 0, **pointers,
        )  # fmt: skip
        with ONE_PASS:
            self.model.rank, self.model.threads = rank, self.threads()
            number = self._call("forward", ctypes.byref(self.model), ctypes.byref(batch))
        if number < 0:
            raise MemoryError("there is no memory for a pass of the model")
        kept = (batch, numbers, table, cache, adapters)  # what the structure points into
        return Computed(
            out["states"],
            out["logits"] if logits else None,
            out["logprob"],
            out["entropy"],
            kept,
            int(number),
        )

    def draw(
        self, logits: Tensor, samplings: Sequence[Sampling], draws: Sequence[float], seen: Sequence[Tensor]
    ) -> Drawn:
        """As sampling.draw: logits (B, V), `seen` bool (V,) a row."""
        numbers = [
            torch.tensor([getattr(sampling, name) for sampling in samplings], dtype=torch.float32)
            for name in ("temperature", "top_p", "repetition_penalty")
        ]
        uniform = torch.tensor(draws, dtype=torch.float64)
        marks = (c_void_p * len(seen))(*(each.data_ptr() for each in seen))
        tokens = torch.empty(len(samplings), dtype=torch.long)
        logprobs, entropy = torch.empty(2, len(samplings))
        failed = self._call("draw", ctypes.byref(Draws(
            len(samplings), logits.shape[1], self.threads(), logits.data_ptr(),
            *(each.data_ptr() for each in (*numbers, uniform)), ctypes.addressof(marks),
            tokens.data_ptr(), logprobs.data_ptr(), entropy.data_ptr(),
        )))  # fmt: skip
        if failed:
            raise MemoryError("there is no memory for drawing tokens")
        return tokens.tolist(), logprobs.tolist(), entropy.tolist()

    def gradient(self, computed: Computed, weights: Tensor, scale: float, numbers: int) -> Tensor:
        """(numbers,) float32: the gradient of Σ weights · logprobs with respect to A and B of every module in turn."""
        self._pack_back()
        grads = torch.empty(numbers)
        weights = weights.float().contiguous()
        with ONE_PASS:
            failed = self._call(
                "backward", ctypes.byref(computed.batch[0]), c_int64(computed.number), c_void_p(weights.data_ptr()),
                c_float(scale), c_void_p(grads.data_ptr()),
            )  # fmt: skip
        assert not failed, "a gradient is taken right after its own pass"
        return grads

    def pages(self, lengths: Sequence[int]) -> tuple[Tensor, list[range]]:
        """Pages for whole sequences, and their tables; good until the next call. What a sequence leaves of its last
        page is wiped: it counts nought times, and nought times the NaN of an earlier pass would be NaN."""
        counts = [-(-length // PAGE) for length in lengths]
        if len(self.scratch) < sum(counts):
            with torch.inference_mode(False):  # else nobody outside of such a mode could wipe them
                self.scratch = arena(sum(counts), self.page_size)
        ends = torch.tensor(counts).cumsum(0).tolist()
        for end in ends:
            self.scratch[end - 1].zero_()
        return self.scratch, [range(end - count, end) for count, end in zip(counts, ends, strict=True)]

    def _call(self, name: str, *arguments: Any) -> int:
        return getattr(self.library, f"thumbtune_{name}")(*arguments)

    def _keep(self, tensor: Tensor) -> int:
        tensor = tensor.detach().contiguous()
        self.kept.append(tensor)
        return tensor.data_ptr()

    def _linear(self, linear: nn.Linear) -> Linear:
        outputs, inputs = linear.weight.shape
        bias = None
        if linear.bias is not None:
            bias = self._keep(nn.functional.pad(linear.bias.float(), (0, -outputs % PAGE)))
        return Linear(outputs, inputs, self._panels(linear.weight, turned=False), None, bias)

    def _panels(self, weight: Tensor, turned: bool) -> int:
        rows, columns = weight.shape[::-1] if turned else weight.shape
        panels = arena(-(-rows // PAGE) * PAGE, columns + columns % 2)
        self._call(
            "pack_panels", c_void_p(weight.data_ptr()), c_int64(rows), c_int64(columns), c_int64(turned),
            c_int64(torch.get_num_threads()), c_void_p(panels.data_ptr()),
        )  # fmt: skip
        return self._keep(panels)

    def _pack_back(self) -> None:
        """The transposed weights, which only a trainer needs."""
        if self.model.out.back:
            return
        for layer, packed in zip(self.network.base_model.layers, self.layers, strict=True):
            for number, module in enumerate(MODULES):
                packed.linear[number].back = self._panels(
                    _frozen(layer.get_submodule(module)).weight, turned=True
                )
        self.model.out.back = self._panels(self.network.get_output_embeddings().weight, turned=True)

    def _rotary(self, rotary: nn.Module, positions: int, head: int) -> tuple[int, int]:
        """Cosines and sines (positions, d / 2) as the model's own module computes them."""
        at = torch.arange(positions)[None]
        cosine, sine = rotary(torch.zeros(1), at)
        return self._keep(cosine[0, :, : head // 2].float()), self._keep(sine[0, :, : head // 2].float())


def _frozen(module: nn.Module) -> Any:
    return getattr(module, "frozen", module)


def _check(network: Any) -> None:
    config = network.config
    weight = network.get_output_embeddings().weight
    rope = getattr(config, "rope_parameters", None) or {}
    reasons = {
        f"its family is {config.model_type}": config.model_type in FAMILIES,
        f"it is {weight.dtype} on {weight.device}": weight.dtype == torch.bfloat16
        and weight.device.type == "cpu",
        "its activation is not SiLU": getattr(config, "hidden_act", "") in ("silu", "swish"),
        "its rotary positions change with the length": rope.get("rope_type", "default") in STATIC_ROPES,
        "some of its layers have a window": not getattr(config, "use_sliding_window", False),
    }
    for reason, fits in reasons.items():
        if not fits:
            raise Unfit(reason)
    head = network.base_model.layers[0].self_attn.head_dim
    widths = (config.hidden_size, config.intermediate_size, config.num_attention_heads * head)
    if any(width % 32 for width in widths) or head % 16:
        raise Unfit(f"its widths {widths} are not multiples of 32, or its heads' {head} not of 16")
