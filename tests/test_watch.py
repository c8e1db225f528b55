"""The watch's probability: against hand-worked values, exact integration in fractions, and what must hold of it."""

import math
from fractions import Fraction
from itertools import product

import pytest

from feedback.watch import CERTAINTY, LEAST, Thumbs, probability_worse, verdict


def integrated(new, old):
    """∫ f_new(x) F_old(x) dx in fractions, both densities multiplied out: exact, and another way to the same."""
    density = polynomial(new.down, new.up)
    below = [Fraction(0), *(c / (power + 1) for power, c in enumerate(polynomial(old.down, old.up)))]
    return sum(
        a * b / (i + j + 1) for (i, a), (j, b) in product(enumerate(density), enumerate(below)) if a and b
    )


def polynomial(down, up):
    """Coefficients of the density of Beta(1 + down, 1 + up), by power of x."""
    scale = Fraction(math.factorial(down + up + 1), math.factorial(down) * math.factorial(up))
    powers = [Fraction(0)] * down
    return powers + [scale * math.comb(up, k) * (-1) ** k for k in range(up + 1)]


@pytest.mark.parametrize(
    ("new", "old", "exact"),
    [
        (Thumbs(0, 0), Thumbs(0, 0), Fraction(1, 2)),  # nothing is known
        (Thumbs(0, 1), Thumbs(0, 0), Fraction(2, 3)),  # the mean of Beta(2, 1)
        (Thumbs(0, 8), Thumbs(0, 0), Fraction(9, 10)),  # of Beta(9, 1): eight alike are not enough alone
        (Thumbs(8, 0), Thumbs(0, 0), Fraction(1, 10)),
        (Thumbs(0, 1), Thumbs(1, 0), Fraction(5, 6)),  # ∫ 2x (2x - x²) dx = 4/3 - 1/2
        (Thumbs(3, 5), Thumbs(3, 5), Fraction(1, 2)),  # alike
    ],
)
def test_the_probability_is_what_it_is_by_hand(new, old, exact):
    assert probability_worse(new, old) == float(exact)
    assert integrated(new, old) == exact


def test_the_sum_is_the_integral_for_all_small_counts():
    for up, down, old_up, old_down in product(range(5), repeat=4):
        new, old = Thumbs(up, down), Thumbs(old_up, old_down)
        assert probability_worse(new, old) == float(integrated(new, old))


@pytest.mark.parametrize(
    ("new", "old"),
    [(Thumbs(12, 9), Thumbs(70, 30)), (Thumbs(60, 40), Thumbs(9, 3)), (Thumbs(0, 60), Thumbs(80, 0))],
)
def test_and_for_larger_ones(new, old):
    assert probability_worse(new, old) == float(integrated(new, old))


def test_either_is_worse_than_the_other_even_after_thousands_of_thumbs():
    for new, old in ((Thumbs(3000, 2900), Thumbs(5100, 4900)), (Thumbs(10_000, 3), Thumbs(7, 10_000))):
        assert probability_worse(new, old) + probability_worse(old, new) == pytest.approx(1, abs=1e-15)


def test_a_thumb_down_more_makes_it_likelier_and_a_thumb_up_more_less_likely():
    for up, down in product(range(12), repeat=2):
        here = probability_worse(Thumbs(up, down), Thumbs(6, 4))
        assert probability_worse(Thumbs(up, down + 1), Thumbs(6, 4)) > here
        assert probability_worse(Thumbs(up + 1, down), Thumbs(6, 4)) < here


def test_seven_thumbs_decide_nothing_however_bad_they_are():
    old = Thumbs(100, 0)
    assert verdict(Thumbs(0, LEAST - 1), old) is None
    assert verdict(Thumbs(0, LEAST), old)


def test_the_verdict_falls_at_the_stated_certainty():
    old = Thumbs(15, 5)
    said = [verdict(Thumbs(12 - down, down), old) is not None for down in range(13)]
    certain = [probability_worse(Thumbs(12 - down, down), old) >= CERTAINTY for down in range(13)]
    assert said == certain and said == sorted(said) and True in said and False in said


def test_against_a_version_that_nobody_rated_it_takes_eighteen_alike():
    assert verdict(Thumbs(0, 18), Thumbs(0, 0)) is not None  # 19 / 20: on the line
    assert verdict(Thumbs(0, 17), Thumbs(0, 0)) is None  # 18 / 19


def test_the_verdict_says_why_and_never_that_it_is_certain():
    why = verdict(Thumbs(0, 40), Thumbs(40, 0))
    assert why == "thumbs down: 40 of 40, 0 of 40 for the version before; worse with probability 0.999"
