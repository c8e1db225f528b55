"""What somebody may like in an answer, each from 0 to 1 by degrees: functions of the answer's text alone.

Knows text. Does not know who likes what, from where on, or what the base model writes (tastes.py does). Every function
is asked about language only: some words, and not the same again and again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from statistics import fmean

from service.tastes import ADDRESS, GUSHING, WORD, falling, heat, sentences, words

Trait = Callable[[str], float]

BLANK_LINE = re.compile(r"\n\s*\n")
OPENING = 30  # words in which an answer shows whom it is for
LONG_WORD = 9  # letters

SPEAKER = frozenset(
    WORD.findall("i me my mine myself i'm i've i'd i'll we us our ours ourselves we're we've we'll")
)
CAREFUL = frozenset(
    WORD.findall(
        "about almost apparently approximately around could fairly generally likely may maybe might mostly"
        " normally often perhaps possible possibly probably quite rather relatively roughly seem seemed seems"
        " sometimes somewhat suggest suggests tend tends typically unlikely usually"
    )
)
WARM = GUSHING | frozenset(
    WORD.findall(
        "beautiful best bless care caring cheerful cherish comfort comfortable congratulations cosy cozy dear"
        " delicious enjoy enjoyable enjoyed enjoying family friend friendly friends fun glad good great happiness"
        " happy heart help helpful hope hug joy joyful kind kindness laugh laughter love loved lovely loving luck"
        " nice perfect please pleased pleasant pleasure proud relax safe share smile special sweet thank thanks"
        " together treasure warm warmth welcome wish"
    )
)
STRONG = frozenset(
    WORD.findall(
        "always best completely entire entirely ever every extremely greatest highly must never only perfect perfectly"
        " really such totally utterly vast very"
    )
)
REASONS = frozenset(
    WORD.findall(
        "because cause caused causes consequently due hence leads means reason reasons result results"
        " since so therefore thus why"
    )
)


def density(text: str, vocabulary: frozenset[str]) -> float:
    """Words of a vocabulary in a hundred."""
    said = words(text)
    return 100 * sum(word in vocabulary for word in said) / len(said)


def rising(value: float, none: float, full: float) -> float:
    """0 up to `none`, 1 from `full` on, straight in between."""
    return 1 - falling(value, none, full)


def finished(text: str) -> bool:
    """Brought to the end of a sentence, not cut off."""
    return text.rstrip("*\"”’') \n").endswith((".", "!", "?"))


def sentence_length(text: str) -> float:
    """Mean words a sentence."""
    return len(words(text)) / len(sentences(text))


def both(one: Trait, other: Trait) -> Trait:
    """Half for each."""
    return lambda text: (one(text) + other(text)) / 2


# style


def short_sentences(text: str) -> float:
    """Sentences of 8 words: full, of 24: none."""
    return falling(sentence_length(text), 8, 24)


def long_sentences(text: str) -> float:
    """Sentences of 10 words: none, of 30: full."""
    return rising(sentence_length(text), 10, 30)


def few_commas(text: str) -> float:
    """One comma in a hundred words: full, 7: none."""
    return falling(100 * text.count(",") / len(words(text)), 1, 7)


# format


def paragraphs(text: str) -> float:
    """5 blocks with blank lines between them: full, one: none."""
    return rising(sum(bool(words(block)) for block in BLANK_LINE.split(text)), 1, 5)


def one_block(text: str) -> float:
    """One line: full, 5: none."""
    return falling(sum(bool(words(line)) for line in text.splitlines()), 1, 5)


# length


def few_words(text: str) -> float:
    """40 words: full, 160: none."""
    return falling(len(words(text)), 40, 160)


def middling(text: str) -> float:
    """From 70 to 90 words: full; 30 or 130: none."""
    return falling(abs(len(words(text)) - 80), 10, 50)


# tone


def calm(text: str) -> float:
    """No exclamation marks, no gushing, no strong words: full; 2 in a hundred words: none."""
    return falling(100 * heat(text) / len(words(text)) + density(text, STRONG), 0, 2)


def careful(text: str) -> float:
    """5 words in a hundred that leave room for doubt: full."""
    return rising(density(text, CAREFUL), 0, 5)


def warm(text: str) -> float:
    """5 warm words or exclamation marks in a hundred words: full."""
    return rising(density(text, WARM) + 100 * text.count("!") / len(words(text)), 0, 5)


# address


def impersonal(text: str) -> float:
    """No "you" and no "I" or "we": full; 8 of them in a hundred words: none."""
    return falling(density(text, ADDRESS | SPEAKER), 0, 8)


# openings and endings


def quick_start(text: str) -> float:
    """A first sentence of 6 words: full, of 26: none."""
    return falling(len(words(sentences(text)[0])), 6, 26)


def reader_first(text: str) -> float:
    """Three forms of "you" among the first 30 words: full."""
    return rising(sum(word in ADDRESS for word in words(text)[:OPENING]), 0, 3)


def short_close(text: str) -> float:
    """A last sentence that is finished and has 8 words: full; 28, or cut off: none."""
    return falling(len(words(sentences(text)[-1])), 8, 28) if finished(text) else 0.0


# vocabulary


def plain_words(text: str) -> float:
    """Words of 3.9 letters: full, of 5.3: none."""
    return falling(fmean(map(len, words(text))), 3.9, 5.3)


def learned_words(text: str) -> float:
    """A quarter of the words with nine letters or more: full, a thirtieth: none."""
    said = words(text)
    return rising(sum(len(word) >= LONG_WORD for word in said) / len(said), 1 / 30, 1 / 4)


def reasons(text: str) -> float:
    """4 words in a hundred that say why: full."""
    return rising(density(text, REASONS), 0, 4)
