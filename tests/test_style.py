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
        ("lines", "One.\n\nTwo.\nThree.", math.log(4)),
        ("lists", "Take:\n- an egg\n- a pan\n3. a stove", math.log(4)),
        ("lists", "A well-known 3. place - yes", 0.0),
        ("exclamations", "Oh! Really? Yes!", 2 / 3),
        ("questions", "Oh! Really? Yes!", 1 / 3),
        ("commas", "red, green, blue", 2 / 3),
        ("colons", "first: one; two", 2 / 3),
        ("emphasis", "**bold** word", 4 / 2),
        ("digits", "a1b2", 0.5),
        ("capitals", "AbCd", 0.5),
        ("word_length", "ab abcd", 3.0),
        ("variety", "the cat the dog", 3 / 4),
        ("first_person", "I think we're done now", 2 / 5),
        ("second_person", "You’ll find your keys", 2 / 4),
        ("hedges", "perhaps it may rain", 2 / 4),
        ("strengtheners", "a very good day", 1 / 4),
    ],
)
def test_features_are_what_a_hand_counts(name, text, expected):
    assert value(name, text) == pytest.approx(expected)


def test_ended_is_told_from_outside():
    assert (value("ended", "A text.", True), value("ended", "A text.", False)) == (1.0, 0.0)


@pytest.mark.parametrize("text", ["", " \n", "!!!", "123", "🙂", "\x00"])
def test_any_text_has_finite_features(text):
    assert all(math.isfinite(number) for number in measure(text, False))
