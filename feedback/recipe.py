"""What a version was made from, written down so that the same can be made again.

Knows the examples in their order, the settings, and what else the bits of a round hang on. Does not know versions or
disk. With the version's own parent and seed, and the answers and thumbs that the examples name, `run_round` gives the
same adapter and the same learner, bit by bit, on the same machine with the same library versions and thread count.
(The compiled kernels' sums do not depend on their thread count; PyTorch's may.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from feedback.round import Example, RoundConfig


def recipe(examples: Sequence[Example], config: RoundConfig, toxicity: str) -> dict[str, Any]:
    """JSON. `toxicity`: the classifier's name."""
    return {
        "examples": [
            {"message_id": each.message_id, "revision": each.revision, "held_out": each.held_out}
            for each in examples
        ],
        "config": asdict(config),
        "toxicity": toxicity,
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
    }
