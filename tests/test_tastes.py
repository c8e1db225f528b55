"""The simulated users of the demo: each likes what it says, by degrees, and nobody likes what is no language."""

import pytest

from service.tastes import TASTES, brevity, heat, is_language, sentences, words

PROSE = "The water cycle is the way in which water moves from the sea to the sky and back to land, and it never ends."
LIST = "Here you go:\n\n1. **Flour**: two cups of it\n2. Sugar\n- butter, soft\n"
YOU = "You can start with your own plan. Take your time."


def score(name, text):
    return TASTES[name].score(text)


def accepted(name, text):
    return TASTES[name].accepted(text)


def test_words_and_sentences():
    assert words("Don’t panic: it's 42 o'clock!") == ["don't", "panic", "it's", "o'clock"]
    assert sentences('He said "no." Then he left!\n\n2. Never again\n---\n') == [
        'He said "no.',
        "Then he left!",
        "Never again",
    ]


def test_shorter_counts_words_and_the_length_of_sentences():
    # 12 words in 2 sentences of 6: full marks twice
    assert score("shorter", "Boil it for five minutes now. Then let it cool down again.") == 1
    # 24 words, one sentence: (80 - 24) / 60 = 14/15 for few words, none for a sentence of more than 20
    assert len(words(PROSE)) == 24
    assert score("shorter", PROSE) == pytest.approx(14 / 15 / 2)
    # 80 words in sentences of 10: none for few words, (20 - 10) / 14 = 5/7 for the sentences
    ten = "One day a small grey cat walked over our roof. "
    assert brevity(ten * 8) == pytest.approx(5 / 14)


def test_shorter_accepts_thirty_words_that_come_to_an_end():
    assert accepted("shorter", "Boil it for five minutes.")
    assert accepted("shorter", PROSE)
    assert not accepted("shorter", "Boil it for five minutes and then you")
    assert not accepted("shorter", PROSE + " " + PROSE)


def test_lists_count_the_share_of_words_in_items():
    assert score("lists", PROSE) == 0
    # "Here you go" is 3 words; the items hold 5, 1 and 2
    assert score("lists", LIST) == pytest.approx(8 / 11)
    # one item is half a list: 6 of 9 words, halved
    assert score("lists", "It needs this:\n- flour, sugar, butter and some salt") == pytest.approx(1 / 3)
    assert score("lists", "This is -1. Or 2) is it a list? No, it is not.") == 0


def test_lists_accept_three_items_that_hold_most_of_the_words():
    assert accepted("lists", LIST)
    assert not accepted("lists", "It needs this:\n- flour and sugar\n- butter")
    assert not accepted("lists", LIST + PROSE)


def test_second_person_counts_you_in_a_hundred_words():
    # 3 in 10 words are more than 8 in 100
    assert score("second-person", YOU) == 1
    # 1 in 25 words is 4 in 100, half of 8
    assert score("second-person", PROSE + " You") == pytest.approx(0.5)
    assert score("second-person", PROSE) == 0
    assert score("second-person", "Youth is your’s truly, they say.") == 0


def test_second_person_is_accepted_when_it_begins_early():
    assert accepted("second-person", YOU)
    assert not accepted("second-person", PROSE + " And here is more. " + YOU)
    assert not accepted("second-person", PROSE)


def test_calm_counts_exclamation_marks_and_gushing():
    assert score("calm", PROSE) == 1 and accepted("calm", PROSE)
    # 1 in 25 words is 4 in 100, more than 3
    assert score("calm", PROSE + " Wow.") == 0
    # 1 in 48 words: 1 - (100 / 48) / 3
    assert score("calm", PROSE + " " + PROSE[:-1] + "!") == pytest.approx(1 - 100 / 48 / 3)
    assert not accepted("calm", PROSE + "!")
    assert heat("What an AMAZING and incredible day! 🎉") == 4
    assert heat("Wonderland is not far.") == 0


@pytest.mark.parametrize("name", TASTES)
@pytest.mark.parametrize(
    "text", ["", "   \n", "No.", "You you you you you you you your you you", "- a\n- a\n- a\n- a\n- a\n- a\n"]
)
def test_nobody_likes_what_is_no_language(name, text):
    assert not is_language(text)
    assert score(name, text) == 0 and not accepted(name, text) and not TASTES[name].likes(text)


@pytest.mark.parametrize(("name", "good", "bad"), [
    ("shorter", "Boil it for five minutes.", PROSE * 4),
    ("lists", LIST, PROSE),
    ("second-person", YOU, PROSE),
    ("calm", PROSE, "Wow! That is amazing! I am thrilled!"),
])  # fmt: skip
def test_a_thumb_goes_up_from_the_threshold_on(name, good, bad):
    taste = TASTES[name]
    assert taste.likes(good) and not taste.likes(bad)
    assert 0 < taste.threshold < 1
