"""The simulated users of the proof: what each likes, when their thumb goes up, who is for tuning, who for the report.

Knows traits, their thresholds and the split. Does not know the model or how anything is learnt. A taste is a
`service.tastes.Taste`: `score` is its hidden utility, 0 to 1; a thumb goes up from `threshold` on; `accepted` is the
strict test, a score of at least `strict`. Thresholds and strict tests were set on what the base model answers with
chat's defaults, before anything was trained, and so was who takes part: base utility between 0.1 and 0.7
(base_utility.json, by `python -m benchmarks.base_utility`).

THE REPORT'S TASTES ARE NEVER TUNED ON: no setting, feature or prior is chosen by how they come out. What their rounds
were held for has shown where to look, which docs/learning.md tells.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import traits
from benchmarks.traits import Trait, both
from service.tastes import Taste, address, listing

BASE_UTILITY = (0.1, 0.7)  # of a taste that takes part
RARELY = 0.2  # accepted share of the base's answers up to which thumbs until three in a row are counted
TABLE = Path(__file__).with_name("base_utility.json")


@dataclass(frozen=True)
class User:
    """A taste, what kind it is of, and how many of ten thumbs are slips."""

    kind: str
    taste: Taste
    slips: int = 1


def _user(kind: str, name: str, wish: str, liking: Trait, threshold: float, strict: float) -> User:
    return User(kind, Taste(name, wish, liking, threshold, lambda text: liking(text) >= strict))


TUNING = (
    _user("address", "second-person", "to be addressed as you", address, 0.25, 0.75),
    _user("length", "few-words", "few words", traits.few_words, 0.28, 0.9),
    _user("format", "lists", "lists instead of prose", listing, 0.1, 0.66),
    _user("tone", "calm", "no exclamation marks, no gushing, no strong words", traits.calm, 0.5, 1.0),
    _user("style", "few-commas", "few commas", traits.few_commas, 0.4, 0.9),
    _user("opening", "quick-start", "a short first sentence", traits.quick_start, 0.55, 0.9),
    _user("vocabulary", "plain-words", "short words", traits.plain_words, 0.27, 0.8),
    _user("combination", "few-words-for-you", "few words, and to be addressed as you",
          both(traits.few_words, address), 0.34, 0.8),
)  # fmt: skip

REPORT = (
    _user("style", "short-sentences", "short sentences", traits.short_sentences, 0.46, 0.8),
    _user("style", "long-sentences", "long sentences", traits.long_sentences, 0.34, 0.8),
    _user("format", "paragraphs", "several paragraphs", traits.paragraphs, 0.5, 1.0),
    _user("format", "one-block", "one piece without line breaks", traits.one_block, 0.6, 1.0),
    _user("length", "middling", "some 80 words, neither more nor fewer", traits.middling, 0.3, 0.9),
    _user("tone", "careful", "room for doubt", traits.careful, 0.25, 0.8),
    _user("tone", "warm", "warm words", traits.warm, 0.3, 0.8),
    _user("address", "impersonal", "neither you nor I", traits.impersonal, 0.65, 0.95),
    _user("opening", "reader-first", "to be addressed at once", traits.reader_first, 0.3, 1.0),
    _user("ending", "short-close", "a short last sentence that is brought to its end", traits.short_close, 0.2, 0.9),
    _user("vocabulary", "learned-words", "long words", traits.learned_words, 0.3, 0.8),
    _user("vocabulary", "reasons", "to be told why", traits.reasons, 0.2, 0.7),
    _user("combination", "friendly-guide", "warm words, and to be addressed as you",
          both(traits.warm, address), 0.3, 0.75),
    _user("combination", "dry-note", "short sentences, and no gushing",
          both(traits.short_sentences, traits.calm), 0.6, 0.9),
)  # fmt: skip

# What a user likes first, and after half of the thumbs.
TURNS = {
    "short-sentences": "long-sentences",
    "long-sentences": "short-sentences",
    "impersonal": "reader-first",
    "reader-first": "impersonal",
    "one-block": "paragraphs",
    "paragraphs": "one-block",
}
LONG_RUN = ("short-sentences", "paragraphs", "careful", "warm", "reader-first", "learned-words")

# Likes whatever is language: with half of the thumbs flipped, a user without a taste.
NOBODY = User("none", Taste("nobody", "nothing in particular", lambda _: 1.0, 0.5, lambda _: True), slips=5)

USERS = {user.taste.name: user for user in (*TUNING, *REPORT, NOBODY)}


def takes_part(utility: float) -> bool:
    """Whether the base model leaves this taste something to learn, and something to begin from."""
    return BASE_UTILITY[0] <= utility <= BASE_UTILITY[1]


def base_utility() -> dict[str, Any]:
    """What the base's answers were worth to each taste, measured before any training (base_utility.py)."""
    found: dict[str, Any] = json.loads(TABLE.read_text(encoding="utf-8"))["tastes"]
    return found


def rarely_satisfied(name: str) -> bool:
    """Whether the base's answers pass this taste's strict test at most one time in five."""
    return bool(base_utility()[name]["accepted"] <= RARELY)
