"""The tiny model is a Hugging Face folder like any other, and the same one every time."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.tiny import tiny_model

CHAT = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Grüße, 你好"}]
CHATML = (
    "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nGrüße, 你好<|im_end|>\n<|im_start|>assistant\n"
)


def test_the_tokenizer_gives_bytes_back_and_applies_chatml(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model(tmp_path))
    assert tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True) == CHATML
    ids = tokenizer.encode("Grüße, 你好\n", add_special_tokens=False)
    assert len(ids) == len("Grüße, 你好\n".encode())
    assert tokenizer.decode(ids) == "Grüße, 你好\n"
    assert len(tokenizer.encode("<|im_start|>a", add_special_tokens=False)) == 2
    assert (tokenizer.eos_token, tokenizer.eos_token_id, len(tokenizer)) == ("<|im_end|>", 258, 259)


def test_the_model_loads_and_its_next_token_is_neither_flat_nor_certain(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model(tmp_path))
    assert model.config.eos_token_id == model.generation_config.eos_token_id == 258
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    with torch.no_grad():
        log_p = model(torch.arange(40)[None]).logits.log_softmax(-1)  # (1, T, V)
    entropy = -(log_p.exp() * log_p).sum(-1)
    assert 2.0 < entropy.mean() < 5.4  # ln 259 = 5.56 nats would be flat


def test_two_folders_hold_the_same_bytes(tmp_path: Path) -> None:
    first, second = tiny_model(tmp_path / "a"), tiny_model(tmp_path / "b")
    names = sorted(path.name for path in first.iterdir())
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(names)
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)
