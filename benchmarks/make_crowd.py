"""`python -m benchmarks.make_crowd`: draws feedback/crowd.safetensors, the simulated people that ship, in a minute.

Knows the answers that they have read (prior_corpus.py) and chance; nobody here was written by hand. A person looks at
one to three things in an answer, of kinds drawn alike: lengths, layout, marks, word forms, families of words, pronouns,
words picked at random, a subject, the opening, the ending. Each rises or falls between two levels, which are shares of
usual answers; how far beyond the usual a person would like to have it is drawn too.

Shapes as in crowd.py.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Sequence

import torch
from safetensors.torch import save

from adapters import disk
from benchmarks import prior_corpus, prior_tastes
from benchmarks.workload import ROOT
from feedback import crowd
from feedback.counts import PARTS, SHAPED, SHAPES, Families
from feedback.crowd import Crowd

FILE = ROOT / "feedback" / crowd.FILE
PEOPLE, SEED = 60000, 11
MOST_PARTS = 3
PICKED, SUBJECTS, PAIRS = 300, 120, 100  # families: of words at random, of a subject, of two families
SHARES = 5  # parts of a family that are families too
LEVELS = (0.05, 0.95)  # shares of usual answers between which a part's two levels are drawn
BEYOND = (0.0, 1.0)  # how much farther than that, as a share of the way from none to full
THRESHOLDS = (0.3, 0.7)  # share of usual answers that get no thumb up


def main() -> None:
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {text}", flush=True)

    corpus = prior_corpus.to_learn_from(say)
    drawn, families = draw(corpus.texts, PEOPLE, SEED)
    tensors, told = crowd.packed(drawn, families)
    disk.replace(FILE, save(tensors, metadata=told))
    say(f"written: {FILE.relative_to(ROOT)}, {FILE.stat().st_size // 1024} kB")


def draw(texts: Sequence[str], number: int, seed: int) -> tuple[Crowd, Families]:
    """So many people, the same ones for the same seed, and the families of words that they count. The texts are where
    words come from; how much of them is much stands in shares of what is usual, wherever a person is."""
    chance = random.Random(seed)
    families, kinds = _families(prior_tastes.Crowd(texts), chance)
    rows = []
    for _ in range(number):
        looked_at = chance.choices(list(kinds), k=chance.choice((1, 1, 2, 2, 3)))
        columns = [chance.choice(chance.choice(kinds[kind])) for kind in looked_at]
        rows.append([(column, *_levels(chance), chance.uniform(*BEYOND)) for column in columns])
    column, none, full, beyond = (
        torch.tensor([[*(part[n] for part in row), *[0] * (MOST_PARTS - len(row))] for row in rows])
        for n in range(4)
    )
    weight = torch.tensor([[*[1 / len(row)] * len(row), *[0.0] * (MOST_PARTS - len(row))] for row in rows])
    product = torch.tensor([chance.random() < 0.3 for _ in rows])
    threshold = torch.tensor([chance.uniform(*THRESHOLDS) for _ in rows])
    return Crowd(column, none, full, beyond, weight, product, threshold), families


def _levels(chance: random.Random) -> tuple[float, float]:
    """Where one part is worth nothing, and where all."""
    low, high = sorted(chance.uniform(*LEVELS) for _ in range(2))
    ends = [low, max(high, low + 0.2 if low < 0.75 else high)]
    if chance.random() < 0.5:
        ends.reverse()
    return ends[0], ends[1]


def _families(read: prior_tastes.Crowd, chance: random.Random) -> tuple[Families, dict[str, list[list[int]]]]:
    """The families of words that people count, and of each kind of thing the columns."""
    found: list[tuple[str, str, frozenset[str]]] = []  # kind, part of the text, words

    def shares(words: frozenset[str], many: int) -> list[frozenset[str]]:
        return [
            words,
            *(
                frozenset(chance.sample(sorted(words), math.ceil(len(words) * chance.uniform(0.5, 1))))
                for _ in range(many)
            ),
        ]

    for words in prior_tastes.FAMILIES:
        found += [("family", "whole", each) for each in shares(words, SHARES)]
        kinds = {"first word": "opening", "first six": "opening", "first fifteen": "opening",
                 "last sentence": "ending", "last fifteen": "ending"}  # fmt: skip
        found += [(kind, part, each) for part, kind in kinds.items() for each in shares(words, 1)]
    for words in prior_tastes.PRONOUNS:
        found += [("pronouns", "whole", each) for each in shares(words, SHARES)]
    for _ in range(PAIRS):
        one, other = chance.sample(prior_tastes.FAMILIES, 2)
        found.append(("family", "whole", shares(one, 1)[1] | shares(other, 1)[1]))
    found += [("lexicon", "whole", read.picked(chance)) for _ in range(PICKED)]
    found += [("subject", "whole", read.subject(chance)) for _ in range(SUBJECTS)]
    known = tuple(sorted(frozenset[str]().union(*(each for _, _, each in found))))
    index = {word: number for number, word in enumerate(known)}
    members = torch.zeros(len(known), len(found))
    for number, (_, _, each) in enumerate(found):
        members[[index[word] for word in each], number] = 1
    parts = list(PARTS)
    shapes = iter(range(SHAPED))
    kinds_of = {kind: [list(itertools.islice(shapes, len(each)))] for kind, each in SHAPES.items()}
    # Half of those who look there look at its words, a quarter at its length, and a quarter at its marks.
    for kind in ("opening", "ending"):
        (shaped,) = kinds_of[kind]
        words_of = [SHAPED + number for number, each in enumerate(found) if each[0] == kind]
        kinds_of[kind] = [shaped[:1], shaped[1:], words_of, words_of]
    for kind in ("family", "pronouns", "lexicon", "subject"):
        kinds_of[kind] = [[SHAPED + number for number, each in enumerate(found) if each[0] == kind]]
    part = torch.tensor([parts.index(each) for _, each, _ in found])
    return Families(known, members, part), kinds_of


if __name__ == "__main__":
    main()
