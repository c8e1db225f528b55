"""Style features of texts whose numbers can be counted by hand."""

import math

import pytest

from feedback.style import FEATURES, measure


def value(name, text, ended=True):
    return dict(zip([feature.name for feature in FEATURES], measure(text, ended), strict=True))[name]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("length", "One two three.", math.log(4)),
        ("sentence_length", "One two three. Four five six!", math.log(4)),
        ("sentence_spread", "One. Two three four.", 1 / 2),  # lengths 1 and 3: mean 2, deviation 1
        ("sentence_spread", "One two. Three four.", 0.0),
        ("first_sentence", "One two three. Four.", math.log(4)),
        ("last_sentence", "One. Two three four.", math.log(4)),
        ("lines", "One.\n\nTwo.\nThree.", math.log(4)),
        ("paragraphs", "One.\n\nTwo.\nThree.\n \nFour.\n\n", math.log(3)),
        ("lists", "Take:\n- an egg\n- a pan\n3. a stove", math.log(4)),
        ("lists", "A well-known 3. place - yes", 0.0),
        ("numbered", "Take:\n- an egg\n3. a stove", math.log(2)),
        ("headings", "# One\ntext\nTwo:\n**Three**\nnot **four** here", math.log(4)),
        ("emphasis", "**bold** word", math.sqrt(4 / 2)),
        ("code", "`a` <b>", math.sqrt(4 / 2)),
        ("exclamations", "Oh! Really? Yes!", math.sqrt(2 / 3)),
        ("questions", "Oh! Really? Yes!", math.sqrt(1 / 3)),
        ("commas", "red, green, blue", math.sqrt(2 / 3)),
        ("colons", "first: one; two", math.sqrt(2 / 3)),
        ("brackets", "one (two)", math.sqrt(1 / 2)),
        ("dashes", "one - two – well-known...", math.sqrt(3 / 4)),
        ("quotes", 'say "no"', math.sqrt(2 / 2)),
        ("symbols", "fine 🙂 day ☀", math.sqrt(2 / 2)),
        ("digits", "a1b2", math.sqrt(0.5)),
        ("capitals", "AbCd", math.sqrt(0.5)),
        ("shouting", "I say NO", math.sqrt(1 / 3)),
        ("word_length", "ab abcd", 3.0),
        ("variety", "the cat the dog", 3 / 4),
        ("contractions", "it's late, don’t go", math.sqrt(2 / 4)),
        ("adverbs", "really early fly", math.sqrt(2 / 3)),
        ("abstractions", "information is kindness", math.sqrt(2 / 3)),
        ("first_person", "I think we're done now", math.sqrt(2 / 5)),
        ("second_person", "You’ll find your keys", math.sqrt(2 / 4)),
        ("hedges", "perhaps it may rain", math.sqrt(2 / 4)),
        ("strengtheners", "a very good day", math.sqrt(1 / 4)),
        ("politeness", "Please sit, thank you", math.sqrt(2 / 4)),
        ("commands", "Take a pan. It is hot. Wait!", math.sqrt(2 / 3)),
        ("opens_reply", "Sure, here it is", 1.0),
        ("opens_reply", "I am sure", 0.0),
        ("opens_self", "I am sure", 1.0),
        ("opens_command", "Take a pan. It is hot.", 1.0),
        ("opens_question", "Why? Because.", 1.0),
        ("opens_question", "Because. Why?", 0.0),
        ("ends_question", 'He asked: "Why?" ', 1.0),
        ("ends_question", "Why? Because.", 0.0),
        ("ends_exclaiming", "Go on!", 1.0),
        ("ends_addressing", "It is late. What do you say", 1.0),
        ("ends_addressing", "You know it. It is late.", 0.0),
    ],
)
def test_features_are_what_a_hand_counts(name, text, expected):
    assert value(name, text) == pytest.approx(expected)


def test_ended_is_told_from_outside():
    assert (value("ended", "A text.", True), value("ended", "A text.", False)) == (1.0, 0.0)


@pytest.mark.parametrize("text", ["", " \n", "!!!", "123", "🙂", "\x00"])
def test_any_text_has_finite_features(text):
    assert all(math.isfinite(number) for number in measure(text, False))


def test_no_two_features_have_one_name():
    assert len({feature.name for feature in FEATURES}) == len(FEATURES)


@pytest.mark.parametrize("text", ["\n" * 20_000, " " * 20_000, "- " * 10_000, "**" * 10_000, "\n \n" * 7_000])
def test_a_strange_text_takes_no_strange_time(text):
    """Patterns that look back and forth over white space would take minutes, and the test's own limit."""
    assert all(math.isfinite(number) for number in measure(text, False))
