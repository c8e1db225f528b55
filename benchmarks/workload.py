"""What every engine is given: the same prompts and the same adapters, from the same files.

Knows the demo's prompts, and how an adapter that changes something is drawn and kept in PEFT's format. Does not know
who reads them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from adapters.adapter import Adapter, LoraShape
from adapters.checkpoint import Checkpoint, resolve
from adapters.model import BaseModel
from adapters.versions import CONFIG, WEIGHTS

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "bench"
MODELS = BUILD / "models"
RANK, ALPHA = 8, 16.0  # the service's own (service/settings.py)
SPREAD = 0.01  # of B's numbers: as large as a round's, so that answers stay language


def embedded() -> Checkpoint:
    """The embedded model as safetensors, converted once."""
    return resolve("", MODELS, report=lambda _: None)


def lines() -> list[str]:
    """The demo's prompts, a line each."""
    text = (resources.files("service") / "demo_prompts.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip()]


@dataclass
class Prompts:
    """Prompts that nobody has read before, so that no engine remembers one: a number leads each, as long in every."""

    model: BaseModel
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(10_000, 99_999)))

    def next(self, rows: int) -> list[list[int]]:
        """Token ids of `rows` prompts; the i-th is as long every time."""
        wanted = (lines() * (rows // len(lines()) + 1))[:rows]
        said = [f"Question {next(self.numbers)}. {line}" for line in wanted]
        return [self.model.encode([{"role": "user", "content": text}]) for text in said]


def drawn(shape: LoraShape, seed: int) -> Adapter:
    """A random adapter that changes every layer a little."""
    generator = torch.Generator().manual_seed(seed)
    fresh = Adapter.fresh(shape, generator)
    changed = {
        path: (a, SPREAD * torch.randn(b.shape, generator=generator))
        for path, (a, b) in fresh.weights.items()
    }
    return Adapter(shape, changed)


def adapter_folders(shape: LoraShape, count: int) -> list[Path]:
    """PEFT folders of `count` adapters, the i-th drawn with seed i; made where they are missing."""
    return [_kept(BUILD / "adapters" / f"{seed:04d}", shape, seed) for seed in range(count)]


def read(folder: Path, shape: LoraShape) -> Adapter:
    """The adapter in a PEFT folder."""
    return Adapter.from_peft(json.loads((folder / CONFIG).read_text()), load_file(folder / WEIGHTS), shape)


def _kept(folder: Path, shape: LoraShape, seed: int) -> Path:
    if not (folder / CONFIG).exists():  # written last
        config, tensors = drawn(shape, seed).to_peft("SmolLM2-135M-Instruct")
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        (folder / CONFIG).write_text(json.dumps(config, indent=2))
    return folder
