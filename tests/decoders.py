"""Small random decoders of several families, written as model folders, and their logits the slow and plain way.

Every weight is a bfloat16 number, adapters' too: two ways to compute differ by their rounding alone.
"""

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from adapters.adapter import Adapter
from adapters.arena import arena
from adapters.model import ModelConfig, load
from adapters.native import Tokens
from tests.tiny import tiny_tokenizer

COMMON = {
    "vocab_size": 259,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    "bos_token_id": 257,
    "eos_token_id": 258,
    "pad_token_id": 258,
}


def write(folder, family, **changes):
    """A random model of a family (transformers' `model_type`) with ChatML; returns its folder."""
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    config = AutoConfig.for_model(family, **COMMON | changes)
    _random(config).save_pretrained(folder)
    return folder


def _random(config: PretrainedConfig):
    """Norms about 1, biases about 0; weights so that next-token probabilities are neither flat nor certain."""
    network = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, weight in sorted(network.named_parameters()):
            noise = torch.randn(weight.shape, generator=draw)
            weight.copy_(1 + 0.2 * noise if "norm" in name else noise * (0.5 if weight.dim() == 1 else 0.2))
    return network


def loaded(folder, dtype="bfloat16", report=lambda _: None):
    return load(ModelConfig(str(folder), "cpu", dtype), folder / "models", report)


def adapter_of(model, rank, seed=1):
    """A strong random adapter whose factors are bfloat16 numbers, and stay so when the scale, 2, is folded in."""
    draw = torch.Generator().manual_seed(seed)
    shape = model.lora_shape(rank, 2.0 * rank)
    return Adapter(
        shape,
        {
            name: (
                (torch.randn(rank, d_in, generator=draw) * 0.15).bfloat16().float(),
                (torch.randn(d_out, rank, generator=draw) * 0.3 / rank**0.5).bfloat16().float(),
            )
            for name, (d_out, d_in) in shape.modules.items()
        },
    )


@torch.no_grad()
def plain_logits(folder, ids, adapter=None):
    """(T, V) of transformers' own float32 model, its attention written out, the adapter added to the weights."""
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    if adapter is not None:
        for name, (a, b) in adapter.weights.items():
            network.get_submodule(name).weight += adapter.shape.scale * b @ a
    return network(torch.tensor([ids])).logits[0]


def kernel_logits(model, ids, adapter=None):
    """(T, V) of one pass on the compiled kernels."""
    native = model.native
    rank = adapter.shape.rank if adapter else 1
    slots = arena(2, native.adapter_size(rank)).fill_(float("nan"))  # as if others had been there
    if adapter:
        native.pack(adapter, slots[1])
    cache, tables = native.pages([len(ids)])
    every = list(range(len(ids)))
    tokens = Tokens(ids, every, [0] * len(ids), [2 if adapter else 0] * len(ids), tables, every)
    logits = native.compute(tokens, cache, slots, rank, logits=True).logits
    assert logits is not None
    return logits
