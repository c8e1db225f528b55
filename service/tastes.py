"""Four simulated users: what each likes in an answer, as a function of its text alone.

Knows text. Does not know the model, the service or how anything is learnt; and nothing that learns knows of a taste,
for the demo, its command and benchmarks alone import this module. A taste has

    score      0 to 1, how much of what this user likes is in the answer; rises by degrees, so that a small change shows
    threshold  this user gives a thumb up from this score on. Fixed beforehand, near the middle of what the embedded
               base model answers to the demo's rated prompts (with 96 tokens), so that both kinds of thumbs occur
    accepted   the strict test: the answer is as this user wants it, with nothing left to wish for

An answer that is no language (empty, a few words, the same words again and again) scores 0 with everybody, so that a
collapsed model cannot win by it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
ITEM = re.compile(r"^\s*(?:[-*•+]|\d{1,2}[.)])\s+(?=\S)")
SENTENCE_END = re.compile(r"(?<=[.!?])[\"”')*]*\s+")
EMOJI = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf]")

ADDRESS = frozenset(WORD.findall("you your yours yourself yourselves you're you've you'd you'll"))
GUSHING = frozenset(
    WORD.findall(
        "absolutely amazing amazingly awesome breathtaking brilliant captivating delighted delightful ecstatic excited"
        " exciting excitement exhilarating extraordinary fabulous fantastic gorgeous incredible incredibly inspiring"
        " magical magnificent marvellous marvelous mesmerizing outstanding phenomenal remarkable remarkably sensational"
        " spectacular splendid stunning superb terrific thrill thrilled thrilling truly unbelievable unforgettable"
        " wonderful wonderfully wow yay"
    )
)

FEWEST_WORDS = 5  # an answer of fewer words says nothing
LEAST_VARIETY = 0.35  # different words, as a share of all, below which an answer only repeats itself


@dataclass(frozen=True)
class Taste:
    """One simulated user; see the module. `wish` says in words what this user wants."""

    name: str
    wish: str
    liking: Callable[[str], float]
    threshold: float
    strict: Callable[[str], bool]

    def score(self, text: str) -> float:
        """0 to 1; 0 for what is no language."""
        return self.liking(text) if is_language(text) else 0.0

    def accepted(self, text: str) -> bool:
        """Whether the answer is wholly as this user wants it."""
        return is_language(text) and self.strict(text)

    def likes(self, text: str) -> bool:
        """Whether this user's thumb goes up."""
        return self.score(text) >= self.threshold


def is_language(text: str) -> bool:
    """Some words, and not the same ones again and again."""
    said = words(text)
    return len(said) >= FEWEST_WORDS and len(set(said)) >= LEAST_VARIETY * len(said)


def words(text: str) -> list[str]:
    """Words in lower case, without numbers and marks."""
    return [word.lower().replace("’", "'") for word in WORD.findall(text)]


def sentences(text: str) -> list[str]:
    """Sentences and lines that hold a word, list marks left out."""
    lines = (ITEM.sub("", line) for line in text.splitlines())
    parts = (part for line in lines for part in SENTENCE_END.split(line))
    return [part for part in parts if words(part)]


def brevity(text: str) -> float:
    """Half for few words in all (20 or fewer: full, 80: none), half for short sentences (6 words: full, 20: none)."""
    count = len(words(text))
    return (falling(count, 20, 80) + falling(count / len(sentences(text)), 6, 20)) / 2


def is_brief(text: str) -> bool:
    """At most 30 words, and brought to an end."""
    return len(words(text)) <= 30 and text.rstrip("*\"”') \n").endswith((".", "!", "?"))


def listing(text: str) -> float:
    """The share of words that stand in list items; half of it where there is only one item."""
    items = [line for line in text.splitlines() if ITEM.match(line) and words(line)]
    share = sum(len(words(line)) for line in items) / len(words(text))
    return share if len(items) > 1 else share / 2


def is_list(text: str) -> bool:
    """At least three items, which hold at least two thirds of the words."""
    items = [line for line in text.splitlines() if ITEM.match(line) and words(line)]
    return len(items) >= 3 and listing(text) >= 2 / 3


def address(text: str) -> float:
    """How often the reader is addressed: full from 8 forms of "you" in 100 words on."""
    return min(1.0, _addressed(text) / 8)


def is_addressed(text: str) -> bool:
    """At least 4 forms of "you" in 100 words, the first of them among the first 25."""
    return _addressed(text) >= 4 and not ADDRESS.isdisjoint(words(text)[:25])


def calm(text: str) -> float:
    """No exclamation marks, no gushing: full without any, none from 3 such marks and words in 100 words on."""
    return falling(100 * heat(text) / len(words(text)), 0, 3)


def is_calm(text: str) -> bool:
    """Not one of them."""
    return heat(text) == 0


def heat(text: str) -> int:
    """Exclamation marks, gushing words and emoji, counted."""
    return text.count("!") + len(EMOJI.findall(text)) + sum(word in GUSHING for word in words(text))


def _addressed(text: str) -> float:
    said = words(text)
    return 100 * sum(word in ADDRESS for word in said) / len(said)


def falling(value: float, full: float, none: float) -> float:
    """1 up to `full`, 0 from `none` on, straight in between."""
    return min(1.0, max(0.0, (none - value) / (none - full)))


TASTES = {
    taste.name: taste
    for taste in (
        Taste("shorter", "short sentences, and few of them", brevity, 0.24, is_brief),
        Taste("lists", "lists instead of prose", listing, 0.05, is_list),
        Taste("second-person", "to be addressed as you", address, 0.2, is_addressed),
        Taste("calm", "no exclamation marks and no gushing", calm, 0.8, is_calm),
    )
}
