"""What can be counted in an answer: the statistics that people, simulated ones, look at (crowd.py).

Knows text; knows nothing of thumbs, people or models. Of each answer two sorts of columns:

    shape    lengths, layout, marks, forms of words, how it begins and ends: functions of the text (SHAPES)
    words    how often words of a family stand in a part of it (PARTS), as a product of a bag of words with families

A column is a plain count or a rate, and no one's wish. Shapes: N texts, K columns, V words, L families.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from feedback.vocabulary import WORD

SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
ITEM = re.compile(r"(?:[-*•+]|\d{1,2}[.)])\s")
MARKS = "!?,;:()\"-'*.–…"
ENDS = "?!.:"
SUFFIXES = (
    "ing", "ly", "ed", "s", "tion", "er", "al", "ful", "ive", "ous", "able", "ment", "ness", "est", "y",
)  # fmt: skip


@dataclass(frozen=True)
class Said:
    """A text taken apart; `sentences`: the words of each, in lower case, never empty."""

    text: str
    words: list[str]
    lines: list[str]
    sentences: list[list[str]]

    @staticmethod
    def of(text: str) -> Said:
        parts = [in_lower_case(part) for part in SENTENCE_END.split(text)]
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return Said(text, in_lower_case(text), lines, [part for part in parts if part] or [[]])

    def hundred(self, count: float) -> float:
        """So many in a hundred words."""
        return 100 * count / max(1, len(self.words))


def in_lower_case(text: str) -> list[str]:
    """Its words."""
    return [word.lower().replace("’", "'") for word in WORD.findall(text)]


Count = Callable[[Said], float]


def _marked(mark: str) -> Count:
    return lambda said: said.hundred(said.text.count(mark))


def _ended(mark: str) -> Count:
    return lambda said: float(said.text.rstrip().endswith(mark))


def _suffixed(suffix: str) -> Count:
    return lambda said: said.hundred(sum(len(word) > 4 and word.endswith(suffix) for word in said.words))


def _long(letters: int) -> Count:
    return lambda said: said.hundred(sum(len(word) >= letters for word in said.words))


def _short(letters: int) -> Count:
    return lambda said: said.hundred(sum(len(word) <= letters for word in said.words))


def _items(said: Said) -> list[str]:
    return [line for line in said.lines if ITEM.match(line)]


# By the kind of thing that is looked at. Their order is that of the columns: what ships (crowd.py) was made for it.
SHAPES: dict[str, tuple[Count, ...]] = {
    "length": (
        lambda said: len(said.words),
        lambda said: len(said.text),
        lambda said: len(said.sentences),
        lambda said: len(said.words) / len(said.sentences),
        lambda said: max(map(len, said.sentences)),
        lambda said: min(map(len, said.sentences)),
    ),
    "layout": (
        lambda said: len(_items(said)),
        lambda said: sum(len(in_lower_case(line)) for line in _items(said)) / max(1, len(said.words)),
        lambda said: len(said.lines),
        lambda said: len(said.words) / max(1, len(said.lines)),
        lambda said: said.text.count("\n\n"),
        lambda said: said.text.count("**"),
        lambda said: sum(line.endswith(":") for line in said.lines),
    ),
    "marks": (
        *map(_marked, MARKS),
        lambda said: said.hundred(sum(map(str.isdigit, said.text))),
    ),
    "forms": (
        *map(_long, range(6, 11)),
        *map(_short, range(3, 6)),
        lambda said: said.hundred(sum(map(len, said.words))),
        lambda said: said.hundred(len(set(said.words))),
        lambda said: said.hundred(sum("'" in word for word in said.words)),
        lambda said: said.hundred(sum(map(str.isupper, said.text))),
        *map(_suffixed, SUFFIXES),
    ),
    "opening": (
        lambda said: len(said.sentences[0]),
        lambda said: float("?" in SENTENCE_END.split(said.text.strip())[0]),
    ),
    "ending": (lambda said: len(said.sentences[-1]), *map(_ended, ENDS)),
}
SHAPED = sum(map(len, SHAPES.values()))

# Where words are looked for. In the whole text they count by the hundred.
PARTS: dict[str, Callable[[Said], Sequence[str]]] = {
    "whole": lambda said: said.words,
    "first word": lambda said: said.words[:1],
    "first six": lambda said: said.words[:6],
    "first fifteen": lambda said: said.words[:15],
    "last sentence": lambda said: said.sentences[-1],
    "last fifteen": lambda said: said.words[-15:],
}


@dataclass(frozen=True)
class Families:
    """L families of `words`, and where each is looked for: `members` (V, L) 0 or 1, `part` (L,) an index of PARTS."""

    words: tuple[str, ...]
    members: Tensor
    part: Tensor

    @functools.cached_property
    def index(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.part)


def count(texts: Sequence[str], families: Families) -> Tensor:
    """(N, K) float32: SHAPES, then the families."""
    said = [Said.of(text) for text in texts]
    shapes = [[float(each(one)) for kind in SHAPES.values() for each in kind] for one in said]
    out = torch.empty(len(texts), SHAPED + len(families))
    out[:, :SHAPED] = torch.tensor(shapes).view(len(texts), SHAPED)
    for number, part in enumerate(PARTS.values()):
        columns = (families.part == number).nonzero()[:, 0]
        bags = _bags([part(one) for one in said], families)
        if number == 0:
            lengths = torch.tensor([max(1, len(one.words)) for one in said], dtype=torch.float32)
            bags *= 100 / lengths[:, None]
        out[:, SHAPED + columns] = bags @ families.members[:, columns]
    return out


def _bags(words: Sequence[Sequence[str]], families: Families) -> Tensor:
    """(N, V) how often each word is there."""
    bags = torch.zeros(len(words), len(families.words))
    for row, each in enumerate(words):
        known = [number for word in each if (number := families.index.get(word)) is not None]
        bags[row] += torch.bincount(torch.tensor(known, dtype=torch.long), minlength=len(families.words))
    return bags
