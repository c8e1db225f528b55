"""The simulated users of the proof: each likes what it says, by degrees; the split and the base's utilities hold."""

import pytest

from benchmarks import traits
from benchmarks.tastes import (
    LONG_RUN,
    NOBODY,
    RARELY,
    REPORT,
    TUNING,
    TURNS,
    USERS,
    base_utility,
    rarely_satisfied,
    takes_part,
)

PROSE = "The water cycle is the way in which water moves from the sea to the sky and back to land, and it never ends."
SHORT = "Boil it for five minutes. Let it cool. Then eat it with salt."
YOU = "You can start with your own plan. Take your time."
LIST = "Here it is:\n1. Two cups of flour\n2. Sugar\n3. Soft butter\n- milk\n- salt\n- one egg\n"
CAT = "The cat sat on the mat and ate a fat rat."
LEARNED = "Considerable governmental investigations demonstrate extraordinary environmental circumstances."
LONG = " ".join(
    first + last for first in "abcdefghijklmn" for last in "aeioubcdfghj"
)  # 168 words, one sentence
GLAD = "I am so glad! Enjoy your lovely day with your friends and have fun, you deserve it."

LIKED_AND_NOT = {
    "second-person": (YOU, PROSE),
    "few-words": (SHORT, LONG),
    "lists": (LIST, PROSE),
    "calm": (SHORT, "Wow! That is amazing! I am thrilled!"),
    "few-commas": (SHORT, "Red, green, blue, white, black, and so on, and on."),
    "quick-start": ("Start slowly. Then go on: " + PROSE, LONG),
    "plain-words": (CAT, LEARNED),
    "few-words-for-you": (YOU, LONG),
    "short-sentences": (SHORT, LONG),
    "long-sentences": (LONG, SHORT),
    "paragraphs": ("\n\n".join(["First this.", "And then that.", "Now wait.", "Eat it.", "Rest."]), PROSE),
    "one-block": (PROSE, LIST),
    "middling": (" ".join(LONG.split()[:80]), SHORT),
    "careful": ("It may perhaps help a little, and usually it might seem rather likely.", PROSE),
    "warm": (GLAD, PROSE),
    "impersonal": (PROSE, YOU),
    "reader-first": (YOU, PROSE),
    "short-close": (PROSE + " That is all there is.", LONG),
    "learned-words": (LEARNED, CAT),
    "reasons": ("It falls because it is heavy, so the reason is its weight, therefore its mass.", PROSE),
    "friendly-guide": (GLAD, PROSE),
    "dry-note": (SHORT, "Wow! Amazing! " + LONG),
}


@pytest.mark.parametrize("user", [*TUNING, *REPORT], ids=lambda user: user.taste.name)
def test_a_taste_likes_what_it_says(user):
    liked, not_liked = LIKED_AND_NOT[user.taste.name]
    assert user.taste.score(liked) > user.taste.score(not_liked)
    assert user.taste.accepted(liked) and user.taste.likes(liked)
    assert not user.taste.accepted(not_liked) and not user.taste.likes(not_liked)


@pytest.mark.parametrize("user", USERS.values(), ids=lambda user: user.taste.name)
@pytest.mark.parametrize("text", ["", "No.", "You you you you you you you your you you"])
def test_nobody_likes_what_is_no_language(user, text):
    assert user.taste.score(text) == 0 and not user.taste.accepted(text) and not user.taste.likes(text)


@pytest.mark.parametrize("user", [*TUNING, *REPORT], ids=lambda user: user.taste.name)
def test_a_score_is_a_share(user):
    assert all(0 <= user.taste.score(text) <= 1 for pair in LIKED_AND_NOT.values() for text in pair)


def test_traits_worked_out_by_hand():
    # 13 words in 3 sentences
    assert traits.short_sentences(SHORT) == 1 and traits.sentence_length(SHORT) == pytest.approx(13 / 3)
    # 24 words in one sentence: (24 - 10) / 20
    assert traits.long_sentences(PROSE) == pytest.approx(0.7)
    # 1 comma in 24 words is 4.17 in a hundred: (7 - 4.17) / 6
    assert traits.few_commas(PROSE) == pytest.approx((7 - 100 / 24) / 6)
    # 7 lines with words: none; 3: half
    assert traits.one_block(LIST) == 0 and traits.one_block("a b\nc d\n\ne f") == 0.5
    # 3 blocks: half
    assert traits.paragraphs("One two.\n\nThree four.\n \nFive.") == 0.5
    # 50 words are 30 from 80: (50 - 30) / 40
    assert traits.middling(" ".join(LONG.split()[:50])) == 0.5
    # the first sentence has 16 words: (26 - 16) / 20
    assert traits.quick_start(" ".join(LONG.split()[:16]) + ". And then more.") == 0.5
    # "you" twice among the first thirty words
    assert traits.reader_first("You and you. " + LONG + " you") == pytest.approx(2 / 3)
    # 18 words, brought to an end: (28 - 18) / 20; cut off: none
    eighteen = " ".join(LONG.split()[:18])
    assert traits.short_close(eighteen + ".") == 0.5 and traits.short_close(eighteen) == 0
    # 2 of 25 words: 8 in a hundred
    assert traits.impersonal("You and I " + " ".join(LONG.split()[:22])) == 0
    # 1 word in 169
    assert traits.density("so " + LONG, traits.REASONS) == pytest.approx(100 / 169)
    assert traits.both(traits.few_words, traits.calm)(LONG) == 0.5


def test_no_word_is_both_doubt_and_reason():
    assert not traits.CAREFUL & traits.REASONS


def test_tuning_and_report_share_nobody():
    tuning, report = ({user.taste.name for user in users} for users in (TUNING, REPORT))
    assert len(tuning) == 8 and len(report) >= 12 and not tuning & report
    kinds = {"style", "format", "length", "tone", "address", "vocabulary", "combination"}
    assert kinds <= {user.kind for user in REPORT} and kinds <= {user.kind for user in TUNING}
    assert {"opening", "ending"} <= {user.kind for user in REPORT}
    assert {*TURNS, *TURNS.values(), *LONG_RUN} <= report and len(LONG_RUN) == 6
    assert NOBODY.taste.name not in tuning | report


@pytest.mark.parametrize("user", [*TUNING, *REPORT], ids=lambda user: user.taste.name)
def test_the_base_leaves_every_taste_something_to_learn(user):
    measured = base_utility()[user.taste.name]
    assert takes_part(measured["utility"])
    assert 0.15 <= measured["thumbs up"] <= 0.85, "both kinds of thumbs have to occur"
    assert rarely_satisfied(user.taste.name) == (measured["accepted"] <= RARELY)


def test_who_takes_part():
    assert takes_part(0.1) and takes_part(0.7) and not takes_part(0.099) and not takes_part(0.701)


def test_every_taste_has_been_measured_and_no_other():
    assert set(base_utility()) == set(USERS) - {NOBODY.taste.name}
