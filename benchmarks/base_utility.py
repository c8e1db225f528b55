"""What the base model's answers are worth to every taste: `python -m benchmarks.base_utility` writes base_utility.json.

Knows the prompts of the proof and chat's defaults. Does not know what is learnt. It is measured once, before any
training: who takes part hangs on it, and which tastes the base rarely satisfies.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

from benchmarks.offline import Desk
from benchmarks.results import write
from benchmarks.tastes import NOBODY, TABLE, USERS, User, takes_part
from benchmarks.trials import FULL, held_out_prompts, rated_prompts
from benchmarks.workload import ROOT
from feedback.round import RoundConfig

SEED = 77


def measured(user: User, texts: Sequence[str]) -> dict[str, Any]:
    """One taste's line: mean and median utility, and the shares of thumbs up and of accepted answers."""
    taste = user.taste
    scores = [taste.score(text) for text in texts]
    return {
        "kind": user.kind,
        "wish": taste.wish,
        "utility": fmean(scores),
        "median": median(scores),
        "thumbs up": fmean(taste.likes(text) for text in texts),
        "accepted": fmean(taste.accepted(text) for text in texts),
    }


def main() -> int:
    """Measure all; 1 where a taste lies outside, which is then to be replaced."""
    prompts = [*rated_prompts(), *held_out_prompts(FULL)]
    texts = [answer.text for answer in Desk(RoundConfig(answer_tokens=FULL.tokens)).answers(prompts, SEED)]
    table = {user.taste.name: measured(user, texts) for user in USERS.values() if user is not NOBODY}
    write(TABLE, {"answers": len(texts), "tokens": FULL.tokens, "seed": SEED, "tastes": table})
    for name, line in table.items():
        outside = "" if takes_part(line["utility"]) else "  OUTSIDE: replace it"
        figures = ", ".join(
            f"{what} {line[what]:.2f}" for what in ("utility", "median", "thumbs up", "accepted")
        )
        print(f"{name:20} {figures}{outside}")
    print(f"written: {TABLE.relative_to(ROOT)}")
    return int(not all(takes_part(line["utility"]) for line in table.values()))


if __name__ == "__main__":
    sys.exit(main())
