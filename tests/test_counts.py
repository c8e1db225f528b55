"""What is counted in texts whose numbers can be counted by hand."""

import pytest
import torch

from feedback.counts import MARKS, PARTS, SHAPED, SHAPES, SUFFIXES, Families, count

NOTHING = Families((), torch.zeros(0, 0), torch.zeros(0, dtype=torch.long))
PLAIN = "One two three. Four! Five six"
LISTED = "Two kinds:\n\n- red **wine**\n2) tea\nEnd"


def shape(text, kind, place):
    """One column of SHAPES."""
    before = sum(
        len(each) for name, each in SHAPES.items() if list(SHAPES).index(name) < list(SHAPES).index(kind)
    )
    return float(count([text], NOTHING)[0, before + place])


@pytest.mark.parametrize(
    ("kind", "place", "text", "expected"),
    [
        ("length", 0, PLAIN, 6),
        ("length", 1, PLAIN, 29),
        ("length", 2, PLAIN, 3),
        ("length", 3, PLAIN, 2),  # words a sentence
        ("length", 4, PLAIN, 3),
        ("length", 5, PLAIN, 1),
        ("layout", 0, LISTED, 2),
        ("layout", 1, LISTED, 3 / 6),  # "red", "wine" and "tea" stand in items
        ("layout", 2, LISTED, 4),
        ("layout", 3, LISTED, 6 / 4),
        ("layout", 4, LISTED, 1),
        ("layout", 5, LISTED, 2),
        ("layout", 6, LISTED, 1),
        ("layout", 0, "A well-known 3. place - yes", 0),
        ("marks", MARKS.index("!"), "Oh! Really? Yes!", 100 * 2 / 3),
        ("marks", MARKS.index("?"), "Oh! Really? Yes!", 100 / 3),
        ("marks", MARKS.index("…"), "Well… no", 50),
        ("marks", len(MARKS), "In 1984 he left", 100 * 4 / 3),  # digits; they are no words
        ("forms", 0, "a banana tree grows", 25),  # of six letters and more
        ("forms", 4, "strawberry strawberries jam", 100 * 2 / 3),  # of ten and more
        ("forms", 5, "a cat sleeps here", 50),  # of three and fewer
        ("forms", 7, "a cat sleeps here", 75),  # of five and fewer
        ("forms", 8, "ab abcd", 300),  # letters
        ("forms", 9, "the cat The dog", 75),  # different words
        ("forms", 10, "it's late, don’t go", 50),
        ("forms", 11, "AbCd eF", 150),  # capitals
        ("forms", 12 + SUFFIXES.index("ing"), "singing king of rings", 25),  # "king" is too short
        ("forms", 12 + SUFFIXES.index("y"), "early fly by", 100 / 3),
        ("opening", 0, PLAIN, 3),
        ("opening", 0, "\nWhy? Because.", 1),
        ("opening", 1, "\nWhy? Because.", 1),
        ("opening", 1, "Because. Why?", 0),
        ("ending", 0, PLAIN, 2),
        ("ending", 1, "Is it so? \n", 1),
        ("ending", 1, "Is it so? Yes", 0),
        ("ending", 2, "Go!", 1),
        ("ending", 3, "Go.", 1),
        ("ending", 4, "These:", 1),
    ],
)
def test_shapes_by_hand(kind, place, text, expected):
    assert shape(text, kind, place) == pytest.approx(expected)


def test_an_empty_text_counts_for_nothing_and_is_finite():
    """But for its one sentence, of no words."""
    families = Families(("yes",), torch.ones(1, len(PARTS)), torch.arange(len(PARTS)))
    for text in ("", " \n\t"):
        row = count([text], families)[0]
        assert row.isfinite().all()
        (only,) = row.masked_fill(torch.arange(len(row)) == 1, 0).nonzero()[:, 0].tolist()
        assert (only, float(row[only])) == (2, 1.0)
        assert float(row[1]) == len(text)


# Sixteen words; the last sentence has seven.
WINDOWED = "Yes one two three four yes six seven eight. Nine ten Yes twelve yes yes sixteen"


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("whole", 100 * 5 / 16),
        ("first word", 1),
        ("first six", 2),
        ("first fifteen", 5),
        ("last sentence", 3),
        ("last fifteen", 4),
    ],
)
def test_words_of_a_family_are_counted_in_its_part_of_the_text(part, expected):
    """In the whole text by the hundred, else one by one; whatever their case, and other families' not."""
    families = Families(
        ("nine", "yes"),
        torch.tensor([[0.0, 1.0], [1.0, 0.0]]),
        torch.full((2,), list(PARTS).index(part)),
    )
    words = count([WINDOWED], families)[0, SHAPED:]
    assert float(words[0]) == pytest.approx(expected)
    hundred = 100 / 16 if part == "whole" else 1
    inside = {"whole", "last sentence", "first fifteen", "last fifteen"}
    assert float(words[1]) == pytest.approx(hundred if part in inside else 0)


def test_a_family_of_several_words_counts_each_of_them_as_often_as_it_is_there():
    families = Families(("blue", "don't", "red"), torch.tensor([[1.0], [1.0], [0.0]]), torch.tensor([0]))
    texts = ["Blue, red and BLUE", "Don’t! don't dye it red", "nothing", ""]
    assert count(texts, families)[:, SHAPED].tolist() == pytest.approx([50, 40, 0, 0])


def test_a_row_for_each_text_and_a_column_for_each_shape_and_family():
    assert sum(map(len, SHAPES.values())) == SHAPED == 62
    families = Families(("a", "b"), torch.eye(2).repeat(1, 3), torch.arange(6))
    assert count(["a", "b b", ""], families).shape == (3, SHAPED + 6)
    assert count([], families).shape == (0, SHAPED + 6)
    assert count(["one"], NOTHING).shape == (1, SHAPED)
    together = count([PLAIN, LISTED, WINDOWED], families)
    alone = torch.cat([count([text], families) for text in (PLAIN, LISTED, WINDOWED)])
    assert torch.equal(together, alone), "one text's counts know nothing of another's"
