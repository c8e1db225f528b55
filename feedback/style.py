"""How an answer is written, in numbers that anybody's taste may hang on.

Knows text; knows nothing of thumbs, models or tastes. The features are the general ones of stylometry (length, rhythm,
layout, punctuation, families of words, how an answer opens and ends); none was made for one person's wish. Each has the
words in which a person is told about it. Counts come as logarithms, and rates as square roots, so that a first
occurrence weighs more than a tenth (Anscombe 1948 on the spread of counts).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from feedback import vocabulary as of
from feedback.vocabulary import WORD

SENTENCE = re.compile(r"(?<=[.!?])[\"”')*]*\s+|\n+")
LIST_LINE = re.compile(r"^[ \t]*(?:[-*•+]|\d+[.)])[ \t]+", re.MULTILINE)
NUMBERED_LINE = re.compile(r"^[ \t]*\d+[.)][ \t]+", re.MULTILINE)
HEADING = re.compile(r"#+\s.*|.*:\**|\*\*[^*]+\*\*")  # a whole line
DASH = re.compile(r"[–—…]|\s-\s|\.\.\.")
CLOSING = "\"”'’)*_ \n"


@dataclass(frozen=True)
class Text:
    """An answer taken apart once for all features. `sentences`: the words of each, in lower case; never empty."""

    text: str
    ended: bool
    words: list[str]
    sentences: list[list[str]]
    lines: list[str]

    @staticmethod
    def of(text: str, ended: bool) -> Text:
        lines = [line for line in text.splitlines() if line.strip()]
        sentences = [found for part in SENTENCE.split(text) if (found := _words(part))]
        return Text(text, ended, _words(text), sentences or [[]], lines)

    def rate(self, count: float) -> float:
        """√ of a count a word."""
        return math.sqrt(count / max(1, len(self.words)))

    def a_sentence(self, count: float) -> float:
        """√ of a count a sentence."""
        return math.sqrt(count / len(self.sentences))

    def marks(self, marks: str) -> float:
        """√ of how many of these characters there are a word."""
        return self.rate(sum(map(self.text.count, marks)))

    def family(self, family: frozenset[str]) -> float:
        """√ of the share of words that belong to a family."""
        return self.rate(sum(word in family for word in self.words))

    def suffix(self, *suffixes: str) -> float:
        """√ of the share of words of five letters and more that end so."""
        return self.rate(sum(len(word) > 4 and word.endswith(suffixes) for word in self.words))

    def characters(self, wanted: Callable[[str], bool]) -> float:
        """√ of the share of such characters."""
        return math.sqrt(sum(map(wanted, self.text)) / max(1, len(self.text)))

    def spread(self) -> float:
        """How unequally long the sentences are: deviation over mean."""
        lengths = [len(sentence) for sentence in self.sentences]
        mean = sum(lengths) / len(lengths)
        return math.sqrt(sum((n - mean) ** 2 for n in lengths) / len(lengths)) / max(1.0, mean)

    def opens(self, family: frozenset[str]) -> float:
        """1 if its first word is of a family."""
        return float(bool(self.words) and self.words[0] in family)

    def ends(self, mark: str) -> float:
        """1 if it closes with this mark."""
        return float(self.text.rstrip(CLOSING).endswith(mark))

    def commands(self) -> float:
        """√ of the share of sentences that begin like an order."""
        return self.a_sentence(sum(bool(s) and s[0] in of.COMMANDS for s in self.sentences))


def _words(text: str) -> list[str]:
    return [word.lower().replace("’", "'") for word in WORD.findall(text)]


def _is_heading(line: str) -> bool:
    return HEADING.fullmatch(line.strip()) is not None


def _is_symbol(character: str) -> bool:
    return unicodedata.category(character) == "So"


@dataclass(frozen=True)
class Feature:
    """`more` and `less` say what a person likes whose reward rises, or falls, with the value."""

    name: str
    value: Callable[[Text], float]
    more: str
    less: str


def _family(name: str, words: frozenset[str], more: str, less: str) -> Feature:
    return Feature(name, lambda text: text.family(words), more, less)


# fmt: off
FEATURES = (
    # length and rhythm
    Feature("length", lambda t: math.log1p(len(t.words)), "longer answers", "shorter answers"),
    Feature("ended", lambda t: float(t.ended), "answers that come to an end", "answers that run on"),
    Feature("sentence_length", lambda t: math.log1p(len(t.words) / len(t.sentences)),
            "longer sentences", "shorter sentences"),
    Feature("sentence_spread", Text.spread, "sentences of many lengths", "sentences of equal length"),
    Feature("first_sentence", lambda t: math.log1p(len(t.sentences[0])), "a longer first sentence", "a short start"),
    Feature("last_sentence", lambda t: math.log1p(len(t.sentences[-1])), "a longer last sentence", "a short ending"),
    # layout
    Feature("lines", lambda t: math.log1p(len(t.lines)), "more lines", "text in one piece"),
    Feature("paragraphs", lambda t: math.log1p(len(re.findall(r"\n\s*\n", t.text.strip()))),
            "more paragraphs", "fewer paragraphs"),
    Feature("lists", lambda t: math.log1p(len(LIST_LINE.findall(t.text))), "lists", "prose instead of lists"),
    Feature("numbered", lambda t: math.log1p(len(NUMBERED_LINE.findall(t.text))), "numbered items", "none numbered"),
    Feature("headings", lambda t: math.log1p(sum(map(_is_heading, t.lines))), "headings", "no headings"),
    Feature("emphasis", lambda t: t.marks("*#_"), "bold and markup", "plain text"),
    Feature("code", lambda t: t.marks("`{}[]<>=|\\/"), "code and symbols", "no code or symbols"),
    # punctuation and characters
    Feature("exclamations", lambda t: t.a_sentence(t.text.count("!")), "exclamation marks", "fewer exclamation marks"),
    Feature("questions", lambda t: t.a_sentence(t.text.count("?")), "questions back", "fewer questions back"),
    Feature("commas", lambda t: t.marks(","), "more commas", "fewer commas"),
    Feature("colons", lambda t: t.marks(":;"), "more colons", "fewer colons"),
    Feature("brackets", lambda t: t.marks("("), "remarks in brackets", "no remarks in brackets"),
    Feature("dashes", lambda t: t.rate(len(DASH.findall(t.text))), "dashes and dots", "no dashes or dots"),
    Feature("quotes", lambda t: t.marks('"“”'), "quotations", "fewer quotations"),
    Feature("symbols", lambda t: t.rate(sum(map(_is_symbol, t.text))), "emoji and symbols", "no emoji or symbols"),
    Feature("digits", lambda t: t.characters(str.isdigit), "numbers", "fewer numbers"),
    Feature("capitals", lambda t: t.characters(str.isupper), "more capitals", "fewer capitals"),
    Feature("shouting", lambda t: t.rate(sum(len(w) > 1 and w.isupper() for w in WORD.findall(t.text))),
            "words in capitals", "no words in capitals"),
    # words
    Feature("word_length", lambda t: sum(map(len, t.words)) / max(1, len(t.words)), "longer words", "shorter words"),
    Feature("variety", lambda t: len(set(t.words)) / max(1, len(t.words)), "varied wording", "plain, repeated wording"),
    Feature("contractions", lambda t: t.rate(sum("'" in word for word in t.words)),
            "an informal tone (it's, don't)", "a formal tone (it is, do not)"),
    Feature("adverbs", lambda t: t.suffix("ly"), "more adverbs", "fewer adverbs"),
    Feature("participles", lambda t: t.suffix("ing"), "more words in -ing", "fewer words in -ing"),
    Feature("abstractions", lambda t: t.suffix("tion", "tions", "ment", "ments", "ness", "ity", "ance", "ence"),
            "abstract words", "concrete words"),
    Feature("plurals", lambda t: t.suffix("s"), "more plurals", "fewer plurals"),
    _family("first_person", of.FIRST_PERSON, "an assistant that says I", "less of I and we"),
    _family("second_person", of.SECOND_PERSON, "being addressed directly", "an impersonal tone"),
    _family("third_person", of.THIRD_PERSON, "talk of he, she and they", "less of he, she and they"),
    _family("articles", of.ARTICLES, "more articles", "fewer articles"),
    _family("hedges", of.HEDGES, "careful wording", "plain statements"),
    _family("strengtheners", of.STRENGTHENERS, "strong words", "calmer words"),
    _family("negations", of.NEGATIONS, "saying what is not", "fewer negations"),
    _family("duties", of.DUTIES, "saying what must be done", "less of must and should"),
    _family("future", of.FUTURE, "talk of the future", "less talk of the future"),
    _family("past", of.PAST, "talk of the past", "less talk of the past"),
    _family("positive", of.POSITIVE, "positive words", "fewer positive words"),
    _family("negative", of.NEGATIVE, "talk of problems", "less talk of problems"),
    _family("politeness", of.POLITENESS, "polite words", "fewer polite words"),
    _family("reasons", of.REASONS, "reasons", "fewer reasons"),
    _family("contrasts", of.CONTRASTS, "other sides of a thing", "no buts"),
    _family("order", of.ORDER, "steps in order", "no steps in order"),
    _family("examples", of.EXAMPLES, "examples", "fewer examples"),
    _family("quantities", of.QUANTITIES, "numbers in words", "fewer numbers in words"),
    _family("comparisons", of.COMPARISONS, "comparisons", "fewer comparisons"),
    _family("social", of.SOCIAL, "talk of people", "less talk of people"),
    _family("senses", of.SENSES, "vivid words", "fewer vivid words"),
    _family("thought", of.THOUGHT, "talk of thinking", "less talk of thinking"),
    _family("feelings", of.FEELINGS, "talk of feelings", "less talk of feelings"),
    Feature("commands", Text.commands, "being told what to do", "not being told what to do"),
    # how it opens and ends
    Feature("opens_reply", lambda t: t.opens(of.REPLIES), "a reply first (Sure, Yes)", "no Sure or Yes first"),
    Feature("opens_self", lambda t: t.opens(of.FIRST_PERSON), "beginning with I or we", "not beginning with I or we"),
    Feature("opens_command", lambda t: t.opens(of.COMMANDS), "an order first", "no order first"),
    Feature("opens_question", lambda t: float("?" in SENTENCE.split(t.text.strip())[0]),
            "a question first", "no question first"),
    Feature("ends_question", lambda t: t.ends("?"), "a question at the end", "no question at the end"),
    Feature("ends_exclaiming", lambda t: t.ends("!"), "an exclamation at the end", "no exclamation at the end"),
    Feature("ends_addressing", lambda t: float(not of.SECOND_PERSON.isdisjoint(t.sentences[-1])),
            "being addressed at the end", "an impersonal ending"),
)
# fmt: on


def measure(text: str, ended: bool) -> list[float]:
    """The value of every feature of FEATURES, in their order. `ended`: by itself, not cut off."""
    parts = Text.of(text, ended)
    return [feature.value(parts) for feature in FEATURES]
