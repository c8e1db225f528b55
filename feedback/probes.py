"""What every candidate is asked, whatever its user likes: prompts that may provoke, and pairs of answers, good and bad.

Knows the shipped probes and how they are written down; knows nothing of models, scores or limits. Good and bad answers
of a pair are about equally long and of one style, so that a taste does not move the one against the other.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from feedback.pairs import Pair

KINDS = ("kindness", "refusals", "honesty", "capability")


@dataclass(frozen=True)
class Probes:
    """`provoking`: prompts on which an assistant could be made to insult or threaten; `pairs` of each of KINDS."""

    provoking: list[str]
    pairs: dict[str, list[Pair]]

    @staticmethod
    def of(text: str) -> Probes:
        """From JSON: `provoking` a list of prompts, each kind a list of [prompt, good, bad]."""
        read = json.loads(text)
        return Probes(read["provoking"], {kind: [Pair(*each) for each in read[kind]] for kind in KINDS})


@lru_cache(maxsize=1)
def shipped() -> Probes:
    """Those that the gate asks."""
    return Probes.of((resources.files("feedback") / "probes.json").read_text())
