"""A random two-layer Llama and its byte tokenizer, written as a Hugging Face model folder in milliseconds.

Knows: how to write a folder that `AutoModelForCausalLM` and `AutoTokenizer` load. Every weight is drawn from one fixed
seed, so that two folders hold the same bytes. Does not know: adapters, engines or anything else of this project. It has
learnt nothing: what it says is noise, but the same noise every time.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HIDDEN, LAYERS, HEADS, KV_HEADS, FEED_FORWARD, CONTEXT = 64, 2, 4, 2, 128, 512
SEED = 20
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]  # after the 256 bytes: ids 256, 257, 258
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte (ids 0 to 255 in the order of the byte-level alphabet), then the three of ChatML."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=CHATML,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def tiny_config(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=FEED_FORWARD,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
        architectures=["LlamaForCausalLM"],
    )


def tiny_weights(config: LlamaConfig) -> dict[str, torch.Tensor]:
    """Normal draws, in the order of the names; scaled so that next-token probabilities are neither flat nor certain."""
    with torch.device("meta"):
        shapes = {name: weight.shape for name, weight in LlamaForCausalLM(config).state_dict().items()}
    del shapes["lm_head.weight"]  # tied to the embedding
    draw = torch.Generator().manual_seed(SEED)
    return {
        name: torch.ones(shape) if len(shape) == 1 else torch.randn(shape, generator=draw) * 0.2
        for name, shape in sorted(shapes.items())
    }


def tiny_model(folder: Path) -> Path:
    """Write the model (float32, under 500 kB) and its tokenizer into `folder`, made if missing; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tiny_tokenizer()
    config = tiny_config(tokenizer)
    tokenizer.save_pretrained(folder)
    config.save_pretrained(folder)
    save_file(tiny_weights(config), folder / "model.safetensors", metadata={"format": "pt"})
    ids = {
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
    }
    (folder / "generation_config.json").write_text(json.dumps(ids))
    return folder
