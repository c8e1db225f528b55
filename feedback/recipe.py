"""What a version was made from, written down so that the same can be made again.

Knows the examples in their order, the settings, and what else the bits of a round hang on. Does not know versions or
disk. With the version's own parent and seed, and the answers and thumbs that the examples name, `run_round` gives the
same adapter and the same learner, bit by bit, on the same machine with the same library versions and thread count.
(The compiled kernels' sums do not depend on their thread count; PyTorch's may.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields, is_dataclass
from typing import Any

import torch

from feedback.round import Example, RoundConfig


def recipe(examples: Sequence[Example], config: RoundConfig) -> dict[str, Any]:
    """JSON."""
    settings = {each.name: getattr(config, each.name) for each in fields(config)}
    harm = settings.pop("harm")
    return {
        "examples": [
            {"message_id": each.message_id, "revision": each.revision, "held_out": each.held_out}
            for each in examples
        ],
        "config": {
            name: asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
            for name, value in settings.items()
        },
        "toxicity": harm.name,
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
    }
