"""How an answer is written, in numbers that anybody's taste may hang on.

Knows text; knows nothing of thumbs, models or tastes. The features are the general ones of stylometry (length,
layout, punctuation, pronouns, variety); none was made for one person's wish. Each has the words in which a person
is told about it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
SENTENCE_END = re.compile(r"[.!?]+(?=\s|$)")
LIST_LINE = re.compile(r"^\s*(?:[-*•+]|\d+[.)])\s+", re.MULTILINE)

FIRST_PERSON = frozenset(
    WORD.findall("i me my mine myself we us our ours ourselves i'm i've i'd i'll we're we've we'll")
)
SECOND_PERSON = frozenset(WORD.findall("you your yours yourself yourselves you're you've you'd you'll"))
HEDGES = frozenset(
    WORD.findall("may might maybe perhaps possibly probably could seems seem likely sometimes usually often")
)
STRENGTHENERS = frozenset(
    WORD.findall(
        "very really extremely absolutely completely totally truly incredibly definitely always never"
    )
)


@dataclass(frozen=True)
class Text:
    """An answer taken apart once for all features."""

    text: str
    ended: bool
    words: list[str]
    sentences: int
    lines: list[str]

    @staticmethod
    def of(text: str, ended: bool) -> Text:
        words = [word.lower().replace("’", "'") for word in WORD.findall(text)]
        lines = [line for line in text.splitlines() if line.strip()]
        return Text(text, ended, words, max(1, len(SENTENCE_END.findall(text))), lines)

    def per_word(self, count: float) -> float:
        return count / max(1, len(self.words))

    def share(self, vocabulary: frozenset[str]) -> float:
        return self.per_word(sum(word in vocabulary for word in self.words))

    def characters(self, wanted: Callable[[str], bool]) -> float:
        return sum(map(wanted, self.text)) / max(1, len(self.text))


@dataclass(frozen=True)
class Feature:
    """`more` and `less` say what a person likes whose reward rises, or falls, with the value."""

    name: str
    value: Callable[[Text], float]
    more: str
    less: str


FEATURES = (
    Feature("length", lambda t: math.log1p(len(t.words)), "longer answers", "shorter answers"),
    Feature("ended", lambda t: float(t.ended), "answers that come to an end", "answers that run on"),
    Feature(
        "sentence_length",
        lambda t: math.log1p(len(t.words) / t.sentences),
        "longer sentences",
        "shorter sentences",
    ),
    Feature("lines", lambda t: math.log1p(len(t.lines)), "more paragraphs and lines", "text in one piece"),
    Feature("lists", lambda t: math.log1p(len(LIST_LINE.findall(t.text))), "lists", "prose instead of lists"),
    Feature(
        "exclamations",
        lambda t: t.text.count("!") / t.sentences,
        "exclamation marks",
        "fewer exclamation marks",
    ),
    Feature("questions", lambda t: t.text.count("?") / t.sentences, "questions back", "fewer questions back"),
    Feature("commas", lambda t: t.per_word(t.text.count(",")), "more commas", "fewer commas"),
    Feature(
        "colons", lambda t: t.per_word(t.text.count(":") + t.text.count(";")), "more colons", "fewer colons"
    ),
    Feature(
        "emphasis", lambda t: t.per_word(sum(map(t.text.count, "*#`_"))), "bold and headings", "plain text"
    ),
    Feature("quotes", lambda t: t.per_word(sum(map(t.text.count, '"“”'))), "quotations", "fewer quotations"),
    Feature("digits", lambda t: t.characters(str.isdigit), "numbers", "fewer numbers"),
    Feature("capitals", lambda t: t.characters(str.isupper), "more capitals", "fewer capitals"),
    Feature("word_length", lambda t: t.per_word(sum(map(len, t.words))), "longer words", "shorter words"),
    Feature("variety", lambda t: t.per_word(len(set(t.words))), "varied wording", "plain, repeated wording"),
    Feature("first_person", lambda t: t.share(FIRST_PERSON), "an assistant that says I", "less of I and we"),
    Feature(
        "second_person", lambda t: t.share(SECOND_PERSON), "being addressed directly", "an impersonal tone"
    ),
    Feature("hedges", lambda t: t.share(HEDGES), "careful wording", "plain statements"),
    Feature("strengtheners", lambda t: t.share(STRENGTHENERS), "strong words", "calmer words"),
)


def measure(text: str, ended: bool) -> list[float]:
    """The value of every feature of FEATURES, in their order. `ended`: by itself, not cut off."""
    parts = Text.of(text, ended)
    return [feature.value(parts) for feature in FEATURES]
