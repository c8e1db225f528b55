"""TRL's KTO on one person's thumbs, in its own environment: `build/trl/bin/python -m benchmarks.kto_peer MODEL FOLDER`.

Knows TRL's trainer (Ethayarajh et al. 2024) at settings for LoRA on few examples: batches of 4, beta 0.1, one rate, a
given number of steps. Reads job.json in the folder; leaves the adapter in PEFT's format and took.json there.
Needs nothing of the project.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

LEARNING_RATE = 1e-4  # TRL's own 1e-6 is for whole models
BATCH = 4


def main(model: str, folder: Path) -> None:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import KTOConfig, KTOTrainer

    job = json.loads((folder / "job.json").read_text())
    trainer = KTOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model),
        args=KTOConfig(
            output_dir=str(folder / "checkpoints"), per_device_train_batch_size=BATCH, max_steps=job["steps"],
            learning_rate=LEARNING_RATE, lr_scheduler_type="constant", save_strategy="no", report_to="none",
            logging_strategy="no", use_cpu=True, bf16=True, gradient_checkpointing=False, seed=job["seed"],
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list([_example(thumb) for thumb in job["thumbs"]]),
        processing_class=AutoTokenizer.from_pretrained(model),
        peft_config=LoraConfig(
            r=job["rank"], lora_alpha=job["alpha"], target_modules=job["modules"], task_type="CAUSAL_LM"
        ),
    )  # fmt: skip
    began = time.perf_counter()
    trainer.train()
    took = {"trained seconds": time.perf_counter() - began, "steps": trainer.state.global_step}
    trainer.model.save_pretrained(folder)
    (folder / "took.json").write_text(json.dumps(took))


def _example(thumb: dict[str, Any]) -> dict[str, Any]:
    """A thumb as TRL wants it: conversational prompt and completion, and whether it is wanted."""
    return {
        "prompt": [{"role": "user", "content": thumb["prompt"]}],
        "completion": [{"role": "assistant", "content": thumb["answer"]}],
        "label": thumb["up"],
    }


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
