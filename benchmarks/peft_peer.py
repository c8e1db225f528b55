"""PEFT's mixed batch as a contender: `python -m benchmarks.peft_peer 32`; with 0, transformers without an adapter.

Knows transformers and PEFT at the settings that are best for them here: bf16 (where the processor multiplies it),
fused attention, one left-padded batch. Does not know our engine.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM

from adapters.model import pick_device, pick_dtype
from benchmarks import workload
from benchmarks.contender import Job, answering, serve
from benchmarks.ours import endless_model


def network(attention: str = "sdpa") -> Any:
    """The embedded model as transformers loads it, its answers ended by their length alone."""
    device = pick_device("auto")
    found: Any = AutoModelForCausalLM.from_pretrained(
        workload.embedded().path, dtype=pick_dtype("auto", device), attn_implementation=attention
    )
    found.generation_config.eos_token_id = None
    return found.to(device).eval()


def padded(prompts: list[list[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and mask (B, P) of prompts padded on the left."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    return ids, mask


@torch.inference_mode()
def generate(model: Any, names: Callable[[int], list[str]], job: Job) -> int:
    """Answers all prompts of the job at once; the tokens made. `names(rows)`: the rows' adapters, if there are any."""
    ids, mask = padded(job.prompts, model.device)
    rows = {"adapter_names": names(len(ids))} if job.adapters else {}
    out = model.generate(
        input_ids=ids, attention_mask=mask, do_sample=False, pad_token_id=0, max_new_tokens=job.tokens, **rows
    )
    return int(out[:, ids.shape[1] :].numel())


def main(adapters: int) -> None:
    answering()
    shape = endless_model().lora_shape(workload.RANK, workload.ALPHA)
    model = network()
    names = [f"adapter-{number}" for number in range(adapters)]
    for name, folder in zip(names, workload.adapter_folders(shape, adapters), strict=True):
        if isinstance(model, PeftModel):
            model.load_adapter(folder, adapter_name=name, autocast_adapter_dtype=False)
        else:
            model = PeftModel.from_pretrained(model, folder, adapter_name=name, autocast_adapter_dtype=False)
    # Left to itself, PEFT keeps factors in float32, and converts every row there and back.
    assert len({weight.dtype for weight in model.parameters()}) == 1
    model.eval()
    serve(lambda job: generate(model, lambda rows: [names[row % adapters] for row in range(rows)], job))


if __name__ == "__main__":
    main(int(sys.argv[1]))
