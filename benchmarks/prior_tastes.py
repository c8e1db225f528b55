"""Simulated people by the hundred, drawn at random: what each likes in an answer, as a function of its text alone.

Knows text and chance; knows nothing of features, models or weights. Nobody here was written by hand: a taste hangs on
one to three statistics of a text, drawn from ten families (length, layout, marks, word forms, families of words,
pronouns, words picked at random, a subject, the opening, the ending), each rising or falling between two levels that
are drawn too. A statistic is counted in its own way, often on a random part of a family of words, so that what is
learnt from these tastes is what tastes have in common and not a list of detectors.
"""

from __future__ import annotations

import functools
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from feedback import vocabulary
from feedback.counts import MARKS, SENTENCE_END, SHAPES, SUFFIXES, Count, Said

PRONOUNS = (vocabulary.FIRST_PERSON, vocabulary.SECOND_PERSON, vocabulary.THIRD_PERSON)
FAMILIES = tuple(
    words
    for name, words in sorted(vars(vocabulary).items())
    if name.isupper() and isinstance(words, frozenset)
)
LIKED = (0.2, 0.8)  # least and greatest share of answers that a taste may like
LEVELS = (0.05, 0.95)  # of a statistic over answers: the range that its two levels are drawn from
MIXED = "mixed"


take_apart = functools.lru_cache(maxsize=8192)(Said.of)


@dataclass(frozen=True)
class Part:
    """One thing that a person looks at: 0 at `none` of it, 1 at `full`, straight in between."""

    count: Count
    none: float
    full: float

    def score(self, said: Said) -> float:
        return min(1.0, max(0.0, (self.count(said) - self.none) / (self.full - self.none)))


@dataclass(frozen=True)
class Taste:
    """One simulated person. `kind`: the family of what it hangs on, or "mixed"."""

    name: str
    kind: str
    parts: list[Part]
    product: bool
    threshold: float

    def score(self, text: str) -> float:
        """0 to 1: how much of what this person likes is in the text."""
        scores = [part.score(take_apart(text)) for part in self.parts]
        return math.prod(scores) ** (1 / len(scores)) if self.product else sum(scores) / len(scores)

    def likes(self, text: str) -> bool:
        """Whether this person's thumb goes up."""
        return self.score(text) >= self.threshold


def draw(texts: Sequence[str], number: int, seed: int) -> list[Taste]:
    """So many tastes, each of which likes some of these texts and not others; the same ones for the same seed."""
    chance = random.Random(seed)
    crowd = Crowd(texts)
    found: list[Taste] = []
    while len(found) < number:
        taste = crowd.draw(f"{seed}-{len(found)}", chance)
        if taste is not None:
            found.append(taste)
    return found


class Crowd:
    """Where tastes are drawn from: the texts that people have read."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.read = [take_apart(text) for text in texts]
        self.common = Counter(word for said in self.read for word in set(said.words))

    def draw(self, name: str, chance: random.Random) -> Taste | None:
        """A taste, or None where the draw likes everything or nothing."""
        kinds = chance.choices(list(STATISTICS), k=chance.choice((1, 1, 2, 2, 3)))
        parts = [self._part(STATISTICS[kind](self, chance), chance) for kind in kinds]
        if any(part.none == part.full for part in parts):
            return None
        kind = kinds[0] if len(set(kinds)) == 1 else MIXED
        taste = Taste(name, kind, parts, product=chance.random() < 0.3, threshold=0.0)
        scores = sorted(taste.score(said.text) for said in self.read)
        threshold = max(1e-9, scores[int(chance.uniform(0.3, 0.7) * len(scores))])
        liked = sum(score >= threshold for score in scores) / len(scores)
        if not LIKED[0] <= liked <= LIKED[1]:
            return None
        return Taste(name, kind, parts, taste.product, threshold)

    def _part(self, count: Count, chance: random.Random) -> Part:
        """Rising or falling between two levels; both the same where nearly all texts have the same count."""
        values = sorted(map(count, self.read))
        low, high = sorted(chance.uniform(*LEVELS) for _ in range(2))
        ends = [
            values[int(level * len(values))] for level in (low, max(high, low + 0.2 if low < 0.75 else high))
        ]
        if ends[0] == ends[1]:  # such as "any at all": a step between the commonest value and what is beyond
            beyond = [value for value in values if value > ends[0]]
            ends[1] = beyond[0] if len(beyond) > LIKED[0] * len(values) / 2 else ends[0]
        if chance.random() < 0.5:
            ends.reverse()
        return Part(count, *ends)

    def subject(self, chance: random.Random) -> frozenset[str]:
        """The words that set one answer apart, by tf-idf: what it is about."""
        said = Counter(chance.choice(self.read).words)
        weighed = {w: n * math.log(len(self.read) / self.common[w]) for w, n in said.items() if len(w) > 3}
        return frozenset(sorted(weighed, key=lambda word: (-weighed[word], word))[:15])

    def picked(self, chance: random.Random) -> frozenset[str]:
        """Words at random among those that some answers have, and not most."""
        some = sorted(w for w, n in self.common.items() if 0.02 <= n / len(self.read) <= 0.4)
        return frozenset(chance.sample(some, min(len(some), chance.randint(4, 25))))


def _rate(words: frozenset[str]) -> Count:
    return lambda said: said.hundred(sum(word in words for word in said.words))


def _part_of(words: frozenset[str], chance: random.Random) -> frozenset[str]:
    """From half of a family to all of it."""
    return frozenset(chance.sample(sorted(words), math.ceil(len(words) * chance.uniform(0.5, 1))))


def _length(_: Crowd, chance: random.Random) -> Count:
    return chance.choice(SHAPES["length"])


def _layout(_: Crowd, chance: random.Random) -> Count:
    return chance.choice(SHAPES["layout"])


def _marks(_: Crowd, chance: random.Random) -> Count:
    marks = chance.sample([*MARKS, *"0123456789"], chance.choice((1, 1, 2, 3)))
    if marks[0].isdigit():
        marks = list("0123456789")
    return lambda said: said.hundred(sum(map(said.text.count, marks)))


def _forms(_: Crowd, chance: random.Random) -> Count:
    size, suffix = chance.randint(6, 10), chance.choice(SUFFIXES)
    counts: tuple[Count, ...] = (
        lambda said: said.hundred(sum(len(word) >= size for word in said.words)),
        lambda said: said.hundred(sum(len(word) <= size // 2 for word in said.words)),
        lambda said: said.hundred(sum(map(len, said.words))),
        lambda said: said.hundred(len(set(said.words))),
        lambda said: said.hundred(sum("'" in word for word in said.words)),
        lambda said: said.hundred(sum(len(word) > 4 and word.endswith(suffix) for word in said.words)),
        lambda said: said.hundred(sum(character.isupper() for character in said.text)),
    )
    return chance.choice(counts)


def _family(_: Crowd, chance: random.Random) -> Count:
    first, second = chance.sample(FAMILIES, 2)
    words = _part_of(first, chance)
    return _rate(words | _part_of(second, chance) if chance.random() < 0.25 else words)


def _pronouns(_: Crowd, chance: random.Random) -> Count:
    return _rate(_part_of(chance.choice(PRONOUNS), chance))


def _lexicon(crowd: Crowd, chance: random.Random) -> Count:
    return _rate(crowd.picked(chance))


def _subject(crowd: Crowd, chance: random.Random) -> Count:
    return _rate(crowd.subject(chance))


def _opening(_: Crowd, chance: random.Random) -> Count:
    words, reach = _part_of(chance.choice(FAMILIES), chance), chance.choice((1, 1, 6, 15))
    counts: tuple[Count, ...] = (
        lambda said: len(said.sentences[0]),
        lambda said: sum(word in words for word in said.words[:reach]),
        lambda said: sum(word in words for word in said.words[:reach]),
        lambda said: float("?" in SENTENCE_END.split(said.text.strip())[0]),
    )
    return chance.choice(counts)


def _ending(_: Crowd, chance: random.Random) -> Count:
    words, mark = _part_of(chance.choice(FAMILIES), chance), chance.choice("?!.:")
    counts: tuple[Count, ...] = (
        lambda said: len(said.sentences[-1]),
        lambda said: sum(word in words for word in said.sentences[-1]),
        lambda said: sum(word in words for word in said.words[-15:]),
        lambda said: float(said.text.rstrip().endswith(mark)),
    )
    return chance.choice(counts)


STATISTICS: dict[str, Callable[[Crowd, random.Random], Count]] = {
    "length": _length,
    "layout": _layout,
    "marks": _marks,
    "forms": _forms,
    "family": _family,
    "pronouns": _pronouns,
    "lexicon": _lexicon,
    "subject": _subject,
    "opening": _opening,
    "ending": _ending,
}
KINDS = (*STATISTICS, MIXED)
