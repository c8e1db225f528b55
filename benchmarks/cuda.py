"""The decoding table on a CUDA device: random weights in the shapes of a 1B and an 8B Llama, up to 256 adapters.

Knows the two shapes, and our engine and PEFT's mixed batch on them; the turns and the clock are decode.py's. Without a
CUDA device it says so and measures nothing. Random weights cost what trained ones do; what they say is noise.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from adapters.adapter import Adapter
from adapters.attention import ATTENTION
from adapters.checkpoint import Checkpoint
from adapters.engine import Engine
from adapters.model import BaseModel, pick_device, pick_dtype
from adapters.slots import Slots
from benchmarks import decode, ours, peft_peer, workload
from benchmarks.contender import answering, serve
from benchmarks.machine import Floor, Peaks
from benchmarks.results import Figures, Result, Say
from service.settings import part_environment

CONTEXT = 4096
MODELS: dict[str, dict[str, Any]] = {
    "1B": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
           "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": True},
    "8B": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
           "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": False},
}  # fmt: skip
VOCABULARY = 128_256
SHAPES = (256, 32, 1)  # rows, each with an adapter of its own


def measure(quick: bool, say: Say) -> Result:
    if not torch.cuda.is_available():
        return Result({}, {}, {"all of it": "PyTorch finds no CUDA device on this machine"})
    figures: Figures = {}
    raw: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    prompts = workload.Prompts(ours.endless_model())
    for name in MODELS:
        with torch.device("meta"):
            model = base_model(name)
        weights = sum(weight.numel() for weight in model.network.parameters())
        lowest = Floor(weights, model.lora_shape(workload.RANK, workload.ALPHA).numbers)
        for rows in SHAPES:
            say(f"{name}, {rows} rows")
            words = [name, str(rows)]
            entries = [
                decode.Entry(
                    decode.OURS, rows,
                    decode.process(f"cuda-ours-{name}", "benchmarks.cuda", "ours", *words, env=part_environment()),
                ),
                decode.Entry(
                    decode.PEFT, rows, decode.process(f"cuda-peft-{name}", "benchmarks.cuda", "peft", *words)
                ),
            ]  # fmt: skip
            entries = decode.race(entries, rows, prompts, 1 if quick else 3, left_out, say)
            floor = lowest.tokens_a_second(rows, Peaks.measured())
            speeds = {entry.name: entry.median() for entry in entries}
            raw[f"{name}, {rows} rows"] = decode.found(entries) | {"floor": floor}
            if decode.OURS in speeds:
                figures[f"{name}, {rows} rows, share of the floor"] = speeds[decode.OURS].decode / floor
            if len(speeds) == len(SIDES):
                figures[f"{name}, {rows} rows against PEFT"] = (
                    speeds[decode.OURS].decode / speeds[decode.PEFT].decode
                )
    return Result(figures, {"tokens a second": raw}, left_out)


def network(name: str, attention: str) -> Any:
    """A Llama of this shape with random weights, whose answers end by their length alone."""
    config = LlamaConfig(
        vocab_size=VOCABULARY, max_position_embeddings=CONTEXT, bos_token_id=None, eos_token_id=None, **MODELS[name]
    )  # fmt: skip
    made: Any = AutoModelForCausalLM.from_config(
        config, dtype=pick_dtype("auto", pick_device("auto")), attn_implementation=attention
    )
    return made.eval()


def base_model(name: str) -> BaseModel:
    """The same as our engine knows it; the tokenizer is the embedded model's, whose words it does not understand."""
    tokenizer = AutoTokenizer.from_pretrained(workload.embedded().path)
    model = BaseModel(Checkpoint(name, "", ""), network(name, ATTENTION), tokenizer)
    model.eos_ids = frozenset()
    return model


def serve_ours(name: str, adapters: int) -> None:
    with pick_device("auto"):
        model = base_model(name)
    shape = model.lora_shape(workload.RANK, workload.ALPHA)

    def draw(uid: str, version: int) -> Adapter:
        return workload.drawn(shape, int(uid.removeprefix("user-")))

    engine = Engine(model, Slots(model, shape, draw, adapters), adapters)
    serve(lambda job: ours.generate(engine, job))


def serve_peft(name: str, adapters: int) -> None:
    with pick_device("auto"):
        made = network(name, "sdpa")
    lora = LoraConfig(
        r=workload.RANK, lora_alpha=int(workload.ALPHA), target_modules="all-linear", init_lora_weights=False
    )
    names = [f"adapter-{number}" for number in range(adapters)]
    model: Any = get_peft_model(made, lora, adapter_name=names[0])
    for other in names[1:]:
        model.add_adapter(other, lora)
    model.eval()
    serve(
        lambda job: peft_peer.generate(
            model, lambda rows: [names[row % adapters] for row in range(rows)], job
        )
    )


SIDES = {"ours": serve_ours, "peft": serve_peft}

if __name__ == "__main__":
    answering()
    SIDES[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
